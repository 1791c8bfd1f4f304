//! `example-config`: every built setting with its default and its reason. The text is a file of
//! the repository that a test reads as a config, and holds to the list of known keys.

use super::report::{Exit, Output};

/// The text.
pub(crate) const EXAMPLE: &str = include_str!("../../../../portcullis.example.toml");

/// Runs `example-config`.
///
/// # Errors
/// Only what writing the answer says.
pub(crate) fn run(output: &mut Output<'_>) -> anyhow::Result<Exit> {
    output.out.write_all(EXAMPLE.as_bytes())?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use portcullis_core::time::Timestamp;

    use super::*;
    use crate::config::{Colour, Memory, Purpose, Surroundings, known, parse};

    const DOCUMENT: &str = r#"
openapi: 3.1.0
info: { title: Payments API, version: "1" }
paths:
  /rates: { get: { security: [] } }
  /feedback: { post: { security: [] } }
  /accounts/{account}/payments:
    parameters: [{ name: account, in: path, required: true, schema: { type: string } }]
    get: {}
    post: {}
  /settlements: { post: {}, get: {} }
  /invoices/{invoice}:
    parameters: [{ name: invoice, in: path, required: true, schema: { type: string } }]
    get: {}
  /search: { get: {} }
  /erasures: { post: {} }
"#;
    const CEDAR: &str = r#"forbid(principal, action in Action::"payments:write", resource)
when { context.now < 0 || context.ip.isMulticast() };
"#;
    const KEYS: &str = r#"{ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "alg": "EdDSA",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] }"#;

    const SECRET: &str = "Wm8xQ2ZoN0dXb1J0c0pLMQ+9aB\n";

    fn read(text: &str) -> crate::config::Config {
        let loader = Memory::default()
            .with_file("payments.yaml", DOCUMENT)
            .with_file("policies/office.cedar", CEDAR)
            .with_file("ledger.jwks.json", KEYS)
            .with_file("console.jwks.json", KEYS)
            .with_file("proxy.jwks.json", KEYS)
            .with_file("legacy.secret", SECRET)
            .with_file("old.secret", SECRET)
            .with_file("registration.token", SECRET)
            .with_file("clients-ca.pem", "read when the server starts");
        let now = Timestamp::parse("2026-11-24").unwrap();
        let surroundings = Surroundings { loader: &loader, now, purpose: Purpose::Serve };
        match parse("portcullis.example.toml", text, &surroundings) {
            Ok(config) => config,
            Err(rejected) => panic!("{}", rejected.render(Colour::Never)),
        }
    }

    #[test]
    fn it_reads_without_an_error_and_without_a_gap() {
        let config = read(EXAMPLE);
        let gaps = config.gaps();
        assert!(
            gaps.is_empty(),
            "{}",
            crate::config::render(&gaps, &config.sources, Colour::Never)
        );
    }

    #[test]
    fn its_defaults_are_the_defaults() {
        // With every default written out, the config must be the same.
        let (plain, written) = (read(EXAMPLE), read(&EXAMPLE.replace("\n#: ", "\n")));
        assert_eq!(plain.limits, written.limits);
        let (a, b) = (plain.server, written.server);
        assert_eq!((a.listen, a.plain, a.health), (b.listen, b.plain, b.health));
        assert_eq!((a.metrics, a.data, a.trust_proxies), (b.metrics, b.data, b.trust_proxies));
        assert_eq!(plain.identity.require, written.identity.require);
        let hosts = |config: &crate::config::Config| -> Vec<_> {
            config.apis.iter().map(|api| api.host).collect()
        };
        let config = (read(EXAMPLE), read(&EXAMPLE.replace("\n#: ", "\n")));
        assert_eq!(hosts(&config.0), hosts(&config.1));
        let timeouts = |config: &crate::config::Config| -> Vec<_> {
            config.rules.operations().map(|operation| operation.timeout).collect()
        };
        assert_eq!(timeouts(&config.0), timeouts(&config.1));
    }

    #[test]
    fn every_built_key_stands_in_it() {
        for table in known::ALL {
            for key in table.keys.iter().filter(|key| key.1 == known::State::Built) {
                let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                let found = EXAMPLE.split(word).any(|word| word == key.0);
                assert!(found, "`{}` of {} is not in the example", key.0, table.name);
            }
        }
    }

    #[test]
    fn it_is_printed_whole() {
        let (exit, out, err) = super::super::report::testing::captured(run);
        assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Fine, EXAMPLE, ""));
    }
}
