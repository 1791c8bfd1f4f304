//! Every key of the contract, table by table: what is built, and what is designed but not built
//! yet. The readers ask for keys by these names; nothing is read that does not stand here.
//!
//! This file judges names only. What a value means is the business of the table's own reader.

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It works.
    Built,
    /// It is designed, not built yet; what to do instead.
    Later(&'static str),
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) &'static str, pub(crate) State);

/// A table whose keys are fixed.
#[derive(Debug)]
pub(crate) struct Table {
    /// How messages name it: `[server]`, `a client`.
    pub(crate) name: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

use State::{Built, Later};

/// All of them, for the test that holds `portcullis.example.toml` to this list.
#[cfg(test)]
pub(crate) static ALL: &[&Table] = &[
    &ROOT,
    &SERVER,
    &TLS,
    &IDENTITY,
    &MFA,
    &MTLS,
    &CLIENT_DOCUMENTS,
    &REGISTRATION,
    &CLIENT,
    &PINNED,
    &FEDERATED,
    &REFRESH,
    &WAIVERS,
    &ISSUER,
    &INTROSPECTION,
    &API,
    &LINE,
    &BODY,
    &OWNER,
    &STEP_UP,
    &POLICY,
    &SCOPE,
    &SECRET,
];

/// The file itself.
pub(crate) static ROOT: Table = Table {
    name: "the file",
    keys: &[
        Key("server", Built),
        Key("identity", Built),
        Key("clients", Built),
        Key("limits", Built),
        Key("api", Built),
        Key("issuers", Built),
        Key("policy", Built),
        Key("admin", Later("administer with `portcullis user` and `portcullis client`")),
        Key("audit", Later("leave it out: decisions are written as JSON lines to standard output")),
        Key("mail", Later("leave it out: one-time links are printed on the terminal")),
    ],
};

/// `[server]`.
pub(crate) static SERVER: Table = Table {
    name: "[server]",
    keys: &[
        Key("domains", Built),
        Key("listen", Built),
        Key("plain", Built),
        Key("health", Built),
        Key("metrics", Built),
        Key("tls", Built),
        Key("data", Built),
        Key("trust_proxies", Built),
        Key("store", Later("leave it out: the state is in SQLite under `data`")),
        Key("counters", Later("leave it out: limits are counted in this process")),
        Key("egress", Built),
    ],
};

/// `tls = { certificate, key }`.
pub(crate) static TLS: Table =
    Table { name: "`tls`", keys: &[Key("certificate", Built), Key("key", Built)] };

/// `[identity]`.
pub(crate) static IDENTITY: Table = Table {
    name: "[identity]",
    keys: &[
        Key("issuer", Built),
        Key("mfa", Built),
        Key("roles", Built),
        Key("groups", Built),
        Key("attributes", Built),
        Key("scopes", Built),
        Key("signup", Built),
        Key("rp_id", Later("leave it out: it is for passkeys, and `totp` is the factor for now")),
        Key("providers", Later("leave it out: people log in with a password and `totp`")),
        Key("mtls", Built),
        Key("client_documents", Built),
        Key("registration", Built),
        Key("details", Built),
        Key("key_life", Built),
    ],
};

/// `mfa = { factors, require }`.
pub(crate) static MFA: Table =
    Table { name: "`mfa`", keys: &[Key("factors", Built), Key("require", Built)] };

/// One client.
pub(crate) static CLIENT: Table = Table {
    name: "a client",
    keys: &[
        Key("type", Built),
        Key("redirect", Built),
        Key("scopes", Built),
        Key("keys", Built),
        Key("secret", Built),
        Key("waivers", Built),
        Key("first_party", Built),
        Key("certificate", Built),
        Key("federated", Built),
        Key("name", Built),
        Key("grants", Built),
        Key("bound", Built),
        Key("refresh", Built),
        Key("profile", Built),
        Key("post_logout", Built),
        Key("back_channel_logout", Built),
        Key("introspects", Built),
        Key("subject", Built),
        Key("signed_userinfo", Built),
        Key("signed_requests", Built),
        Key("details", Built),
        Key("api", Later("use `type = \"web\"` or `\"spa\"`, which keep their own tokens")),
    ],
};

/// `certificate = { pinned }`.
pub(crate) static PINNED: Table = Table { name: "`certificate`", keys: &[Key("pinned", Built)] };

/// `federated = { issuer, subject }`.
pub(crate) static FEDERATED: Table =
    Table { name: "`federated`", keys: &[Key("issuer", Built), Key("subject", Built)] };

/// `refresh = { idle, max }`.
pub(crate) static REFRESH: Table =
    Table { name: "`refresh`", keys: &[Key("idle", Built), Key("max", Built)] };

/// `mtls = { at, ca }`.
pub(crate) static MTLS: Table =
    Table { name: "`mtls`", keys: &[Key("at", Built), Key("ca", Built)] };

/// `client_documents = { scopes, hosts }`.
pub(crate) static CLIENT_DOCUMENTS: Table =
    Table { name: "`client_documents`", keys: &[Key("scopes", Built), Key("hosts", Built)] };

/// `registration = { token, scopes }`.
pub(crate) static REGISTRATION: Table =
    Table { name: "`registration`", keys: &[Key("token", Built), Key("scopes", Built)] };

/// `[issuers.NAME]`.
pub(crate) static ISSUER: Table = Table {
    name: "an issuer",
    keys: &[
        Key("issuer", Built),
        Key("jwks", Built),
        Key("introspection", Built),
        Key("audience", Built),
        Key("algorithms", Built),
        Key("claim", Built),
        Key("map", Built),
        Key("tenant", Built),
        Key("attributes", Built),
        Key("subjects", Built),
        Key("mfa", Built),
        Key("until", Built),
    ],
};

/// `introspection = { endpoint, client, secret }`.
pub(crate) static INTROSPECTION: Table = Table {
    name: "`introspection`",
    keys: &[Key("endpoint", Built), Key("client", Built), Key("secret", Built)],
};

/// `waivers = { … }`.
pub(crate) static WAIVERS: Table = Table {
    name: "`waivers`",
    keys: &[Key("bearer_tokens", Built), Key("no_par", Built), Key("client_secret", Built)],
};

/// `[api.NAME]`.
pub(crate) static API: Table = Table {
    name: "an API",
    keys: &[
        Key("at", Built),
        Key("upstream", Built),
        Key("openapi", Built),
        Key("browsers", Built),
        Key("host", Built),
        Key("timeout", Built),
        Key("in_clear", Built),
        Key("identity", Built),
        Key("tokens", Built),
        Key("details", Built),
        Key("access", Built),
        Key("ca", Later("add the authority to the system's roots")),
        Key("certificate", Later("restrict the upstream to this machine's address")),
    ],
};

/// One table of an access line.
pub(crate) static LINE: Table = Table {
    name: "an access line",
    keys: &[
        Key("allow", Built),
        Key("scope", Built),
        Key("when", Built),
        Key("from", Built),
        Key("until", Built),
        Key("public", Built),
        Key("shared", Built),
        Key("undocumented", Built),
        Key("limit", Built),
        Key("limit_reason", Built),
        Key("audit", Built),
        Key("timeout", Built),
        Key("body", Built),
        Key("owner", Built),
        Key("step_up", Built),
        Key("bound", Built),
        Key("via", Built),
        Key("query", Built),
        Key("accept", Built),
        Key("stream", Later("leave it out: a request runs to its line's `timeout`")),
        Key("response", Built),
    ],
};

/// `body = { … }`.
pub(crate) static BODY: Table = Table {
    name: "`body`",
    keys: &[
        Key("max", Built),
        Key("types", Built),
        Key("fields", Built),
        Key("extra", Built),
        Key("rate", Later("leave it out: a body that stalls ends with the line's `timeout`")),
    ],
};

/// `owner = { lookup, field }`.
pub(crate) static OWNER: Table =
    Table { name: "`owner`", keys: &[Key("lookup", Built), Key("field", Built)] };

/// `step_up = { need, when }`.
pub(crate) static STEP_UP: Table =
    Table { name: "`step_up`", keys: &[Key("need", Built), Key("when", Built)] };

/// `[policy]`.
pub(crate) static POLICY: Table = Table {
    name: "[policy]",
    keys: &[
        Key("policies", Built),
        Key("prove", Later("write single requests under `expect`")),
        Key("expect", Built),
    ],
};

/// `scope = { any = […] }`.
pub(crate) static SCOPE: Table = Table { name: "`scope`", keys: &[Key("any", Built)] };

/// `{ file = … }` or `{ env = … }`.
pub(crate) static SECRET: Table =
    Table { name: "a secret", keys: &[Key("file", Built), Key("env", Built)] };

impl Table {
    /// Looks a key up.
    pub(crate) fn find(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.0 == name)
    }

    /// The built key that a person most likely meant, or all of them.
    pub(crate) fn suggest(&self, name: &str) -> String {
        let built = self.keys.iter().filter(|key| key.1 == Built).map(|key| key.0);
        suggest(name, built)
    }
}

/// "did you mean" when one candidate is near, else the whole list.
pub(crate) fn suggest<'n>(name: &str, candidates: impl Iterator<Item = &'n str> + Clone) -> String {
    match nearest(name, candidates.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<String> = candidates.map(|key| format!("`{key}`")).collect();
            format!("write one of {}", all.join(", "))
        }
    }
}

/// The candidate within a third of its length (at least two) of edits.
fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.len() / 3).max(2))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, row by row; names are short.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, l) in left.chars().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        let mut next = vec![before];
        for (r, up) in right.iter().zip(row.iter().skip(1)) {
            let cost = if l == *r { diagonal } else { diagonal + 1 };
            before = cost.min(before + 1).min(up + 1);
            diagonal = *up;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (left, right, edits) in
            [("", "", 0), ("a", "", 1), ("limt", "limit", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn the_nearest_built_key_is_suggested() {
        assert_eq!(SERVER.suggest("domain"), "did you mean `domains`?");
        assert_eq!(LINE.suggest("alow"), "did you mean `allow`?");
        assert_eq!(MFA.suggest("colour"), "write one of `factors`, `require`");
        assert!(!LINE.suggest("streem").contains("stream"), "what is not built is not offered");
    }

    #[test]
    fn no_key_stands_twice() {
        for table in ALL {
            let mut names: Vec<_> = table.keys.iter().map(|key| key.0).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", table.name);
        }
    }
}
