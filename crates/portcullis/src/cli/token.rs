//! `token fetch`: a token for a cron job, by `private_key_jwt` (RFC 7523 §2.2), bound to the same key
//! by DPoP (RFC 9449).

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use portcullis_core::bearer::Plain;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::jose::claims::AssertionClaims;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::secret::Secret;
use portcullis_core::time::{Clock, Timestamp};

use crate::clock::SystemClock;
use crate::https_client::Client;
use crate::service_client::ServiceClient;

/// Marks an assertion's `jti`.
enum AssertionId {}

/// How long an assertion lives, in seconds: one request's worth.
const ASSERTION_S: i64 = 60;

/// Tokens.
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Print an access token of a service client
    Fetch(FetchToken),
}

/// Arguments of `token fetch`.
#[derive(Args)]
pub(crate) struct FetchToken {
    /// The client's id
    #[arg(long)]
    client: String,
    /// Its private key, PKCS #8 PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The issuer, as in `https://login.pay.example`
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Scopes [default: all that the client may have]
    #[arg(long)]
    scope: Option<String>,
    /// The API wanted [default: the one whose lines use the scopes]
    #[arg(long, value_name = "URL")]
    resource: Option<String>,
    /// A CA to trust instead of the system's roots, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print two header lines for one request, as in "POST https://api.pay.example/v1/settlements":
    /// the token, and the proof without which it opens nothing. For `curl -H @-`
    #[arg(long = "for", value_name = "METHOD URL", conflicts_with = "json")]
    for_request: Option<String>,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs a `token` command.
///
/// # Errors
/// What is wrong with it, or what the server answered.
pub(crate) fn run(command: TokenCommand) -> anyhow::Result<u8> {
    let TokenCommand::Fetch(fetch) = command;
    let pem = Secret::new(
        std::fs::read_to_string(&fetch.key)
            .with_context(|| format!("the key `{}` cannot be read", fetch.key.display()))?,
    );
    let client = match &fetch.ca {
        Some(path) => Client::trusting(
            &std::fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()))?,
        )?,
        None => Client::trusting_system()?,
    };
    let now = SystemClock.now();
    let service = ServiceClient {
        https: &client,
        id: &fetch.client,
        pem: pem.expose(),
        issuer: &fetch.issuer,
    };
    let mut further = vec![("grant_type", "client_credentials")];
    further.extend(fetch.scope.as_deref().map(|scope| ("scope", scope)));
    further.extend(fetch.resource.as_deref().map(|resource| ("resource", resource)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(service.fetch(&further, now))?;
    if fetch.json {
        println!("{}", fetched.document);
    } else if let Some(request) = &fetch.for_request {
        let request = request.split_once(' ').context("`--for` takes \"METHOD URL\"")?;
        println!("Authorization: DPoP {}", fetched.token);
        println!("DPoP: {}", service.proof(request, &fetched, now)?);
    } else {
        println!("{}", fetched.token);
    }
    Ok(0)
}

/// A client assertion signed with a PEM key.
///
/// # Errors
/// When the key is none.
pub(crate) fn assertion(
    pem: &str,
    client: &str,
    issuer: &str,
    now: Timestamp,
) -> anyhow::Result<Secret<String>> {
    let key = SigningKey::from_pem(pem)?;
    let claims = AssertionClaims {
        iss: client.to_owned(),
        sub: client.to_owned(),
        // RFC 7523 §3, and FAPI 2.0 §5.3.2.1: the issuer, one string.
        aud: issuer.to_owned(),
        exp: now.unix() + ASSERTION_S,
        iat: Some(now.unix()),
        nbf: None,
        jti: Plain::<AssertionId>::mint(&ProviderEntropy::default()).reveal().to_owned(),
    };
    Ok(Secret::new(key.sign("JWT", &claims)))
}
