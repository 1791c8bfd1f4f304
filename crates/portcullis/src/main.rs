//! Portcullis: the access layer for APIs, in one binary with one config file.
//!
//! This file names the commands and hands each to its own file under `cli/`; it is the only place
//! that ends the process.

mod admin;
mod cli;
mod clock;
mod config;
mod demo;
mod files;
mod house;
mod https_client;
mod journal;
mod local_ca;
mod server;
mod service_client;

use std::io::{IsTerminal, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cli::report::{Exit, Output};
use clock::SystemClock;
use config::{Colour, Purpose};
use server::FileRefused;

/// The access layer for APIs: login, gateway, access rules and rate limits in one binary
#[derive(Parser)]
#[command(name = "portcullis", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole product on loopback: a sample API, gateway, login, and what to try
    Demo {
        /// Walk through it by itself; exit 0 only if every answer came out as it should
        #[arg(long)]
        tour: bool,
    },
    /// Write a config for your API, from its OpenAPI document if there is one
    Init(cli::init::Arguments),
    /// Serve a config
    Serve {
        /// The config
        #[arg(
            short = 'c',
            long = "config",
            value_name = "FILE",
            default_value = "portcullis.toml"
        )]
        config: PathBuf,
        /// On a laptop: every host becomes localhost with a port of its own, a local CA, reasons of
        /// refusals in the answers
        #[arg(long)]
        dev: bool,
        /// Judge each decision by this config too, and record where it would have said otherwise;
        /// it decides nothing
        #[arg(long, value_name = "NEW")]
        shadow: Option<PathBuf>,
    },
    /// Print the access matrix and every gap; exit 1 on a gap, 2 on an error in the file
    Check(cli::check::Arguments),
    /// Say what would meet a request, and why
    Explain(cli::explain::Arguments),
    /// Yesterday's decisions under a new config: who would gain, who would lose
    Replay(cli::replay::Arguments),
    /// Try the expectations of the config
    Expect(cli::expect::Arguments),
    /// Print every setting with its default and its reason
    ExampleConfig,
    /// People: add, list, grant, revoke, disable
    #[command(subcommand)]
    User(cli::user::UserCommand),
    /// Software that asks for tokens: add, list, jwks, key
    #[command(subcommand)]
    Client(cli::client::ClientCommand),
    /// Tokens: fetch one for a service
    #[command(subcommand)]
    Token(cli::token::TokenCommand),
    /// Who is signed in: list, end
    #[command(subcommand)]
    Session(cli::session::SessionCommand),
    /// What people let applications do: list, withdraw
    #[command(subcommand)]
    Consent(cli::consent::ConsentCommand),
    /// The keys that tokens are signed with: list, rotate, kill
    #[command(subcommand)]
    SigningKey(cli::signing_key::SigningKeyCommand),
    /// Have the running server read its config again, and wait for what came of it
    Reload {
        /// The config
        #[arg(
            short = 'c',
            long = "config",
            value_name = "FILE",
            default_value = "portcullis.toml"
        )]
        config: PathBuf,
        /// Wait for the outcome (always so; for scripts that say it)
        #[arg(long)]
        wait: bool,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            // Help and version are no mistakes; the rest is wrong use.
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    log_to_stderr();
    match run(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    let (mut out, mut err) = (stdout(), stderr());
    let mut output = Output { out: &mut out, err: &mut err, colour: colour() };
    let clock = &SystemClock;
    match command {
        Command::Demo { tour } => demo::run(if tour { demo::Tour::Yes } else { demo::Tour::No }),
        Command::Serve { config, dev, shadow } => {
            cli::serve::run(config, if dev { Purpose::Dev } else { Purpose::Serve }, shadow)
        }
        Command::Init(arguments) => cli::init::run(&arguments, clock, &mut output).map(code),
        Command::Check(arguments) => cli::check::run(&arguments, clock, &mut output).map(code),
        Command::Explain(arguments) => cli::explain::run(&arguments, clock, &mut output).map(code),
        Command::Replay(arguments) => cli::replay::run(&arguments, clock, &mut output).map(code),
        Command::Expect(arguments) => cli::expect::run(&arguments, clock, &mut output).map(code),
        Command::ExampleConfig => cli::example_config::run(&mut output).map(code),
        Command::User(command) => cli::user::run(command),
        Command::Client(command) => cli::client::run(command),
        Command::Token(command) => cli::token::run(command),
        Command::Session(command) => cli::session::run(command),
        Command::Consent(command) => cli::consent::run(command),
        Command::SigningKey(command) => cli::signing_key::run(command),
        Command::Reload { config, wait: _ } => cli::reload::run(&config),
    }
}

/// The contract's exit codes: 0 fine, 1 found something, 2 wrong use.
fn code(exit: Exit) -> u8 {
    match exit {
        Exit::Fine => 0,
        Exit::Found => 1,
        Exit::Misuse => 2,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // A refused file is rendered already, line and caret and all.
    match error.downcast_ref::<FileRefused>() {
        Some(refused) => {
            eprintln!("{refused}");
            ExitCode::from(2)
        }
        None => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Operational messages go to standard error; decision records go to standard output.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_target(false)
        .with_ansi(stderr().is_terminal())
        .init();
}

/// Colour on a terminal, unless <https://no-color.org> asks for none.
fn colour() -> Colour {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = stdout().is_terminal() && stderr().is_terminal();
    if terminal && !plain { Colour::Always } else { Colour::Never }
}
