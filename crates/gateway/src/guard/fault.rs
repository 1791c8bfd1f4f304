//! The vocabulary of the wire guard: one variant per rule broken. The variant's name is the record's
//! reason and the name of its test.
//!
//! Says what is wrong, not what is answered beyond the status: words are `refusal`'s.

/// What is wrong with the bytes of an HTTP/1 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WireFault {
    /// LF that no CR precedes.
    #[error("a line ends in a bare LF (RFC 9112 §2.2)")]
    BareLf,
    /// CR that no LF follows.
    #[error("a CR stands without its LF (RFC 9112 §2.2)")]
    BareCr,
    /// A NUL byte in the head, a chunk line or a trailer.
    #[error("a NUL byte (RFC 9110 §5.5)")]
    NulByte,
    /// A control byte other than HTAB in a field value.
    #[error("a control byte in a field value (RFC 9110 §5.5)")]
    ControlByte,
    /// A field line that starts with white space.
    #[error("a folded field line (RFC 9112 §5.2)")]
    FoldedLine,
    /// The head is longer than 32 KiB.
    #[error("the head is longer than 32 KiB")]
    HeadTooLarge,
    /// More than 100 field lines.
    #[error("more than 100 field lines")]
    FieldsTooMany,
    /// The head did not end within its time.
    #[error("the head did not end within 10 s")]
    HeadTimedOut,
    /// Not `METHOD SP target SP HTTP/1.x CRLF`.
    #[error("the request line is not `METHOD target HTTP/1.1` (RFC 9112 §3)")]
    RequestLineMalformed,
    /// A method with a lower-case letter.
    #[error("a method in lower case (RFC 9110 §9.1: methods are case-sensitive)")]
    MethodLowerCase,
    /// A method that this gateway does not know, `CONNECT` and `TRACE` among them.
    #[error("a method that is not served (RFC 9110 §9.1)")]
    MethodNotServed,
    /// Neither origin form nor absolute form.
    #[error("the target is neither a path nor an absolute address (RFC 9112 §3.2)")]
    TargetForm,
    /// A `#` in the target.
    #[error("the target holds a fragment (RFC 9112 §3.2)")]
    TargetFragment,
    /// A byte that no URI holds.
    #[error("the target holds a byte that must be percent-encoded (RFC 3986 §2)")]
    TargetByte,
    /// The target is longer than 8 KiB.
    #[error("the target is longer than 8 KiB")]
    TargetTooLong,
    /// An absolute form without a path.
    #[error("the target has no path")]
    TargetPathEmpty,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("neither HTTP/1.1 nor HTTP/1.0")]
    VersionNotServed,
    /// A field line without a name of token bytes and a colon.
    #[error("a field name is not a token (RFC 9110 §5.6.2)")]
    FieldNameMalformed,
    /// White space between a field's name and its colon.
    #[error("white space before a field's colon (RFC 9112 §5.1)")]
    FieldNameSpace,
    /// A framing field spelt with `_`, which some upstreams read as `-`.
    #[error("a framing field is spelt with `_`")]
    FramingUnderscore,
    /// No `Host`.
    #[error("no host (RFC 9112 §3.2)")]
    HostMissing,
    /// More than one `Host`.
    #[error("more than one host (RFC 9112 §3.2)")]
    HostTwice,
    /// `Host` is not `name[:port]`.
    #[error("the host is not `name[:port]` (RFC 9110 §7.2)")]
    HostMalformed,
    /// The absolute form names another authority than `Host`.
    #[error("the target's authority differs from the host (RFC 9112 §3.2.2)")]
    HostDiffers,
    /// More than one `Content-Length`.
    #[error("more than one content length (RFC 9112 §6.3)")]
    LengthTwice,
    /// `Content-Length` is not a plain decimal.
    #[error("the content length is not a plain decimal (RFC 9110 §8.6)")]
    LengthMalformed,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("a content length beside a transfer coding (RFC 9112 §6.1)")]
    LengthWithCoding,
    /// More than one `Transfer-Encoding`.
    #[error("more than one transfer coding (RFC 9112 §6.1)")]
    CodingTwice,
    /// `Transfer-Encoding` is not exactly `chunked`.
    #[error("a transfer coding other than `chunked` (RFC 9112 §6.1)")]
    CodingNotServed,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("a transfer coding in HTTP/1.0 (RFC 9112 §6.1)")]
    CodingInOldVersion,
    /// `Expect` other than one `100-continue`.
    #[error("an expectation other than `100-continue` (RFC 9110 §10.1.1)")]
    ExpectNotServed,
    /// `Upgrade`: no line streams yet.
    #[error("an upgrade that no operation allows (RFC 9110 §7.8)")]
    UpgradeNotServed,
    /// A chunk's size is not 1 to 15 hexadecimal digits.
    #[error("a chunk's size is not plain hexadecimal (RFC 9112 §7.1)")]
    ChunkSizeMalformed,
    /// A chunk's extension is longer than 256 bytes.
    #[error("a chunk extension longer than 256 bytes")]
    ChunkExtensionTooLong,
    /// A chunk's data is not followed by CRLF.
    #[error("a chunk's data does not end where its size says (RFC 9112 §7.1)")]
    ChunkEndMissing,
    /// A trailer that frames, routes, authenticates or identifies.
    #[error("a trailer that only a head may carry (RFC 9110 §6.5.1)")]
    TrailerForbidden,
    /// Trailers longer than 8 KiB, or more than 32 of them.
    #[error("too many or too long trailers")]
    TrailersTooLarge,
}

impl WireFault {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            WireFault::HeadTimedOut => 408,
            WireFault::TargetTooLong => 414,
            WireFault::ExpectNotServed => 417,
            // RFC 6585 §5
            WireFault::HeadTooLarge | WireFault::FieldsTooMany | WireFault::TrailersTooLarge => 431,
            // RFC 9110 §9.1: a method that is not implemented is answered with 501
            WireFault::MethodNotServed => 501,
            WireFault::VersionNotServed => 505,
            WireFault::BareLf
            | WireFault::BareCr
            | WireFault::NulByte
            | WireFault::ControlByte
            | WireFault::FoldedLine
            | WireFault::RequestLineMalformed
            | WireFault::MethodLowerCase
            | WireFault::TargetForm
            | WireFault::TargetFragment
            | WireFault::TargetByte
            | WireFault::TargetPathEmpty
            | WireFault::FieldNameMalformed
            | WireFault::FieldNameSpace
            | WireFault::FramingUnderscore
            | WireFault::HostMissing
            | WireFault::HostTwice
            | WireFault::HostMalformed
            | WireFault::HostDiffers
            | WireFault::LengthTwice
            | WireFault::LengthMalformed
            | WireFault::LengthWithCoding
            | WireFault::CodingTwice
            | WireFault::CodingNotServed
            | WireFault::CodingInOldVersion
            | WireFault::UpgradeNotServed
            | WireFault::ChunkSizeMalformed
            | WireFault::ChunkExtensionTooLong
            | WireFault::ChunkEndMissing
            | WireFault::TrailerForbidden => 400,
        }
    }

    /// The rule broken, as the record names it: the variant's name.
    pub fn rule(self) -> &'static str {
        match self {
            WireFault::BareLf => "BareLf",
            WireFault::BareCr => "BareCr",
            WireFault::NulByte => "NulByte",
            WireFault::ControlByte => "ControlByte",
            WireFault::FoldedLine => "FoldedLine",
            WireFault::HeadTooLarge => "HeadTooLarge",
            WireFault::FieldsTooMany => "FieldsTooMany",
            WireFault::HeadTimedOut => "HeadTimedOut",
            WireFault::RequestLineMalformed => "RequestLineMalformed",
            WireFault::MethodLowerCase => "MethodLowerCase",
            WireFault::MethodNotServed => "MethodNotServed",
            WireFault::TargetForm => "TargetForm",
            WireFault::TargetFragment => "TargetFragment",
            WireFault::TargetByte => "TargetByte",
            WireFault::TargetTooLong => "TargetTooLong",
            WireFault::TargetPathEmpty => "TargetPathEmpty",
            WireFault::VersionNotServed => "VersionNotServed",
            WireFault::FieldNameMalformed => "FieldNameMalformed",
            WireFault::FieldNameSpace => "FieldNameSpace",
            WireFault::FramingUnderscore => "FramingUnderscore",
            WireFault::HostMissing => "HostMissing",
            WireFault::HostTwice => "HostTwice",
            WireFault::HostMalformed => "HostMalformed",
            WireFault::HostDiffers => "HostDiffers",
            WireFault::LengthTwice => "LengthTwice",
            WireFault::LengthMalformed => "LengthMalformed",
            WireFault::LengthWithCoding => "LengthWithCoding",
            WireFault::CodingTwice => "CodingTwice",
            WireFault::CodingNotServed => "CodingNotServed",
            WireFault::CodingInOldVersion => "CodingInOldVersion",
            WireFault::ExpectNotServed => "ExpectNotServed",
            WireFault::UpgradeNotServed => "UpgradeNotServed",
            WireFault::ChunkSizeMalformed => "ChunkSizeMalformed",
            WireFault::ChunkExtensionTooLong => "ChunkExtensionTooLong",
            WireFault::ChunkEndMissing => "ChunkEndMissing",
            WireFault::TrailerForbidden => "TrailerForbidden",
            WireFault::TrailersTooLarge => "TrailersTooLarge",
        }
    }
}
