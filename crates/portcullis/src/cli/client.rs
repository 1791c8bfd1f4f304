//! `client add | list | jwks`; `client key` has a file of its own.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::secret::Secret;
use serde_json::Value;

use super::{client_key, office};
use crate::admin::{Command, Registration};
use crate::files;

/// Software that asks for tokens.
#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// Add a client to the store
    Add(Box<AddClient>),
    /// List clients, of the file and of the store
    List(ListClients),
    /// Print the public half of a key as a JWK set: for `keys` of a client in the file
    Jwks(ShowJwks),
    /// API keys of a service client: add, list, revoke
    #[command(subcommand)]
    Key(client_key::KeyCommand),
}

/// Arguments of `client add`.
#[derive(Args)]
pub(crate) struct AddClient {
    /// The client's id, as in `ledger`
    id: String,
    /// spa, native, web, service or device
    #[arg(long = "type", default_value = "service")]
    kind: String,
    /// Scopes that it may be granted, space-separated
    #[arg(long, default_value = "", hide_default_value = true)]
    scopes: String,
    /// Where codes may go; may be repeated
    #[arg(long = "redirect")]
    redirects: Vec<String>,
    /// Make a key: the private half goes to this new file (mode 0600), the public half to the store
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// Its name for people
    #[arg(long)]
    name: Option<String>,
    /// A grant that it may use, as the `grant_type` word; may be repeated [default: by type]
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// An API, by its `at`, whose tokens it may introspect; may be repeated
    #[arg(long, value_name = "URL")]
    introspects: Vec<String>,
    /// Where people go after they signed out; may be repeated
    #[arg(long = "post-logout", value_name = "URL")]
    post_logout: Vec<String>,
    /// What its certificate says instead of a key: dns:HOST, spiffe://… or CN=…
    #[arg(long, value_name = "NAME", conflicts_with_all = ["new_key", "keys"])]
    certificate: Option<String>,
    /// The client's public keys, a JWK Set
    #[arg(long, value_name = "FILE", conflicts_with = "new_key")]
    keys: Option<PathBuf>,
    /// Tokens are not sender-constrained until this date
    #[arg(long, value_name = "DATE")]
    waive_bearer_tokens: Option<String>,
    /// Authorization requests are not pushed until this date
    #[arg(long, value_name = "DATE")]
    waive_no_par: Option<String>,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `client jwks`.
#[derive(Args)]
pub(crate) struct ShowJwks {
    /// A private key, PKCS #8 PEM, Ed25519 or P-256, as `client add --new-key` or
    /// `openssl genpkey -algorithm ed25519` writes it
    #[arg(value_name = "FILE")]
    key: PathBuf,
}

/// Arguments of `client list`.
#[derive(Args)]
pub(crate) struct ListClients {
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `client` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: ClientCommand) -> anyhow::Result<u8> {
    match command {
        ClientCommand::Add(add) => add_client(*add),
        ClientCommand::Jwks(show) => public_keys(&show),
        ClientCommand::Key(command) => client_key::run(command),
        ClientCommand::List(list) => {
            let answer = office::carry_out(&list.installation.config, Command::ClientList)?;
            list.installation.show(&answer, listing);
            Ok(0)
        }
    }
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "id",
        "type",
        "profile",
        "lives in",
        "scopes",
        "excused until",
    ]);
    for row in answer.as_array().into_iter().flatten() {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let waivers = row.get("waivers").and_then(Value::as_object).into_iter().flatten();
        let waivers: Vec<String> = waivers
            .map(|(name, until)| format!("{name} {}", until.as_str().unwrap_or_default()))
            .collect();
        let lives_in = match text("disabled") {
            "" => text("lives_in").to_owned(),
            since => format!("{}, disabled {since}", text("lives_in")),
        };
        table.add_row([
            text("id").to_owned(),
            text("type").to_owned(),
            text("profile").to_owned(),
            lives_in,
            text("scopes").to_owned(),
            waivers.join(", "),
        ]);
    }
    format!("{table}\n")
}

/// The public half of a key, for `keys = "NAME.jwks.json"` in the file.
fn public_keys(show: &ShowJwks) -> anyhow::Result<u8> {
    let pem = std::fs::read_to_string(&show.key)
        .with_context(|| format!("the key `{}` cannot be read", show.key.display()))?;
    let pem = Secret::new(pem);
    let key = SigningKey::from_pem(pem.expose())?;
    println!("{}", JwkSet::new(vec![key.public()]).to_json());
    Ok(0)
}

fn add_client(add: AddClient) -> anyhow::Result<u8> {
    // The private key is written before the client is kept: a client without its key would be lost.
    let made = add.new_key.as_ref().map(|path| new_key(path)).transpose()?;
    let keys = match (&add.keys, made) {
        (_, Some(keys)) => Some(keys),
        (Some(path), None) => Some(read_keys(path)?),
        (None, None) => None,
    };
    let registration = Registration {
        kind: add.kind,
        redirects: add.redirects,
        scopes: add.scopes,
        keys,
        bearer_tokens: add.waive_bearer_tokens,
        no_par: add.waive_no_par,
        name: add.name,
        grants: (!add.grants.is_empty()).then_some(add.grants),
        post_logout: add.post_logout,
        back_channel_logout: None,
        introspects: add.introspects,
        details: Vec::new(),
        certificate: add.certificate,
    };
    let command = Command::ClientAdd { id: add.id, registration: Box::new(registration) };
    let answer = office::carry_out(&add.installation.config, command).inspect_err(|_| {
        // A refused client leaves no key behind.
        if let Some(path) = &add.new_key {
            drop(std::fs::remove_file(path));
        }
    })?;
    add.installation.show(&answer, |answer| {
        let id = answer.get("id").and_then(Value::as_str).unwrap_or_default();
        match &add.new_key {
            Some(path) => {
                format!("added {id}; its private key is in {} (mode 0600)\n", path.display())
            }
            None => format!("added {id}\n"),
        }
    });
    Ok(0)
}

fn new_key(path: &std::path::Path) -> anyhow::Result<Value> {
    let key = SigningKey::generate(Algorithm::Es256)?;
    files::write_secret(path, key.to_pem().expose().as_bytes())?;
    Ok(JwkSet::new(vec![key.public()]).to_json())
}

fn read_keys(path: &std::path::Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let keys: Value = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is not JSON: write a JWK Set", path.display()))?;
    if keys.get("keys").is_none() {
        bail!("`{}` is not a JWK Set: it has no `keys`", path.display());
    }
    Ok(keys)
}
