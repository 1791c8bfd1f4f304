//! The vocabulary of hygiene: one variant per rule broken. The variant's name is the record's reason
//! and the name of its test.
//!
//! Says what is wrong, not what is answered beyond the status: words are `refusal`'s.

/// The rules of a canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HygieneFault {
    /// A method with a lower-case letter.
    #[error("a method in lower case (RFC 9110 §9.1: methods are case-sensitive)")]
    MethodLowerCase,
    /// A method that this gateway does not know, `CONNECT` and `TRACE` among them.
    #[error("a method that is not served (RFC 9110 §9.1)")]
    MethodNotServed,
    /// `_method` in the query.
    #[error("the query overrides the method with `_method`")]
    MethodOverrideInQuery,
    /// `_method` in a form.
    #[error("the form overrides the method with `_method`")]
    MethodOverrideInForm,
    /// Path and query are longer than 8 KiB.
    #[error("the target is longer than 8 KiB")]
    TargetTooLong,
    /// The path does not start with `/`.
    #[error("the path is empty or does not start with `/` (RFC 9113 §8.3.1)")]
    PathEmpty,
    /// The target `*`.
    #[error("the target is `*`")]
    PathAsterisk,
    /// `.` or `..` as a segment, in any encoding.
    #[error("the path holds a dot segment (RFC 3986 §6.2.2.3)")]
    PathDotSegment,
    /// `//`.
    #[error("the path holds an empty segment")]
    PathEmptySegment,
    /// `\`.
    #[error("the path holds a backslash")]
    PathBackslash,
    /// `;`, which some upstreams cut off with what follows.
    #[error("the path holds a `;`")]
    PathParameter,
    /// `%2f` or `%5c`.
    #[error("the path holds an encoded separator")]
    PathEncodedSeparator,
    /// An encoded control character.
    #[error("the path holds an encoded control character")]
    PathControl,
    /// A raw byte above ASCII.
    #[error("the path holds a raw byte above ASCII")]
    PathNotAscii,
    /// A raw byte that no path holds.
    #[error("the path holds a byte that must be percent-encoded (RFC 3986 §3.3)")]
    PathByte,
    /// `%` without two hexadecimal digits.
    #[error("the path holds a `%` without two hexadecimal digits (RFC 3986 §2.1)")]
    PathEscapeMalformed,
    /// `%25` followed by two hexadecimal digits.
    #[error("the path is percent-encoded twice")]
    PathEscapeDouble,
    /// An escape of a character that needs none.
    #[error("the path escapes a character that needs no escape (RFC 3986 §6.2.2.2)")]
    PathEscapeNeedless,
    /// The escapes are not UTF-8, overlong forms among them.
    #[error("the path's escapes are not UTF-8 (RFC 3629 §3)")]
    PathNotUtf8,
    /// A raw byte above ASCII, or a control, in the query.
    #[error("the query holds a byte that must be percent-encoded (RFC 3986 §3.4)")]
    QueryByte,
    /// Neither `Host` nor `:authority`.
    #[error("no host (RFC 9110 §7.2)")]
    AuthorityMissing,
    /// Several `Host` fields.
    #[error("more than one host (RFC 9112 §3.2)")]
    AuthorityTwice,
    /// `Host` differs from `:authority` or from the absolute form.
    #[error("the host differs from the target's authority (RFC 9113 §8.3.1)")]
    AuthorityDiffers,
    /// `user@` before the host.
    #[error("the authority holds user info (RFC 9110 §4.2.4)")]
    AuthorityUserInfo,
    /// Not a host name or an address literal.
    #[error("the authority is not `name[:port]` (RFC 3986 §3.2.2)")]
    AuthorityHostMalformed,
    /// An empty, zero-led or too large port, or something else behind the colon.
    #[error("the authority's port is not a plain number (RFC 3986 §3.2.3)")]
    AuthorityPortMalformed,
    /// A host that is not served here.
    #[error("the authority is not served here (RFC 9110 §15.5.20)")]
    AuthorityNotServed,
    /// A host other than the one that TLS was made for.
    #[error("the authority is not the name of the connection (RFC 9110 §15.5.20)")]
    AuthorityNotOfConnection,
    /// A scheme other than the connection's.
    #[error("the target's scheme is not the connection's (RFC 9110 §7.4)")]
    SchemeDiffers,
    /// More than 100 fields.
    #[error("more than 100 fields")]
    FieldsTooMany,
    /// A field that must stand once stands twice.
    #[error("a field that has one value stands twice (RFC 9110 §5.3)")]
    FieldTwice,
    /// A framing, routing or credential field spelt with `_`, `.` or another stand-in for `-`.
    #[error("a field that steers the request is spelt in another way")]
    FieldDisguised,
    /// `Connection` names a field that is meant for the upstream.
    #[error("`connection` names a field that is not the connection's (RFC 9110 §7.6.1)")]
    ConnectionNamesField,
    /// A field of HTTP/1 connections in HTTP/2.
    #[error("a connection-specific field in HTTP/2 (RFC 9113 §8.2.2)")]
    ConnectionFieldInHttp2,
    /// `TE` other than `trailers` in HTTP/2.
    #[error("`te` other than `trailers` in HTTP/2 (RFC 9113 §8.2.2)")]
    TeInHttp2,
}

impl HygieneFault {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            HygieneFault::TargetTooLong => 414,
            // RFC 9110 §15.5.20: so that no connection is reused for a name that it is not for
            HygieneFault::AuthorityNotServed | HygieneFault::AuthorityNotOfConnection => 421,
            HygieneFault::FieldsTooMany => 431,
            HygieneFault::MethodNotServed => 501,
            HygieneFault::MethodLowerCase
            | HygieneFault::MethodOverrideInQuery
            | HygieneFault::MethodOverrideInForm
            | HygieneFault::PathEmpty
            | HygieneFault::PathAsterisk
            | HygieneFault::PathDotSegment
            | HygieneFault::PathEmptySegment
            | HygieneFault::PathBackslash
            | HygieneFault::PathParameter
            | HygieneFault::PathEncodedSeparator
            | HygieneFault::PathControl
            | HygieneFault::PathNotAscii
            | HygieneFault::PathByte
            | HygieneFault::PathEscapeMalformed
            | HygieneFault::PathEscapeDouble
            | HygieneFault::PathEscapeNeedless
            | HygieneFault::PathNotUtf8
            | HygieneFault::QueryByte
            | HygieneFault::AuthorityMissing
            | HygieneFault::AuthorityTwice
            | HygieneFault::AuthorityDiffers
            | HygieneFault::AuthorityUserInfo
            | HygieneFault::AuthorityHostMalformed
            | HygieneFault::AuthorityPortMalformed
            | HygieneFault::SchemeDiffers
            | HygieneFault::FieldTwice
            | HygieneFault::FieldDisguised
            | HygieneFault::ConnectionNamesField
            | HygieneFault::ConnectionFieldInHttp2
            | HygieneFault::TeInHttp2 => 400,
        }
    }

    /// The rule broken, as the record names it: the variant's name.
    pub fn rule(self) -> &'static str {
        match self {
            HygieneFault::MethodLowerCase => "MethodLowerCase",
            HygieneFault::MethodNotServed => "MethodNotServed",
            HygieneFault::MethodOverrideInQuery => "MethodOverrideInQuery",
            HygieneFault::MethodOverrideInForm => "MethodOverrideInForm",
            HygieneFault::TargetTooLong => "TargetTooLong",
            HygieneFault::PathEmpty => "PathEmpty",
            HygieneFault::PathAsterisk => "PathAsterisk",
            HygieneFault::PathDotSegment => "PathDotSegment",
            HygieneFault::PathEmptySegment => "PathEmptySegment",
            HygieneFault::PathBackslash => "PathBackslash",
            HygieneFault::PathParameter => "PathParameter",
            HygieneFault::PathEncodedSeparator => "PathEncodedSeparator",
            HygieneFault::PathControl => "PathControl",
            HygieneFault::PathNotAscii => "PathNotAscii",
            HygieneFault::PathByte => "PathByte",
            HygieneFault::PathEscapeMalformed => "PathEscapeMalformed",
            HygieneFault::PathEscapeDouble => "PathEscapeDouble",
            HygieneFault::PathEscapeNeedless => "PathEscapeNeedless",
            HygieneFault::PathNotUtf8 => "PathNotUtf8",
            HygieneFault::QueryByte => "QueryByte",
            HygieneFault::AuthorityMissing => "AuthorityMissing",
            HygieneFault::AuthorityTwice => "AuthorityTwice",
            HygieneFault::AuthorityDiffers => "AuthorityDiffers",
            HygieneFault::AuthorityUserInfo => "AuthorityUserInfo",
            HygieneFault::AuthorityHostMalformed => "AuthorityHostMalformed",
            HygieneFault::AuthorityPortMalformed => "AuthorityPortMalformed",
            HygieneFault::AuthorityNotServed => "AuthorityNotServed",
            HygieneFault::AuthorityNotOfConnection => "AuthorityNotOfConnection",
            HygieneFault::SchemeDiffers => "SchemeDiffers",
            HygieneFault::FieldsTooMany => "FieldsTooMany",
            HygieneFault::FieldTwice => "FieldTwice",
            HygieneFault::FieldDisguised => "FieldDisguised",
            HygieneFault::ConnectionNamesField => "ConnectionNamesField",
            HygieneFault::ConnectionFieldInHttp2 => "ConnectionFieldInHttp2",
            HygieneFault::TeInHttp2 => "TeInHttp2",
        }
    }
}
