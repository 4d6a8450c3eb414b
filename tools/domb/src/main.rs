//! `domb`: checks, packs and runs sets of Xen VMs that db-boot builds.
//!
//! This crate is the command line alone: arguments in, messages and exit codes out. The work is in `image`.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod defaults;
mod json;
mod messages;
mod terminal;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser as _;
use messages::Failure;

/// The exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version go to standard output and are no error; a usage error is status 1 like any other.
        Err(error) if error.use_stderr() => {
            messages::usage(&error);
            return ExitCode::FAILURE;
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    if let Err(error) = ctrlc::set_handler(image::interrupt::request) {
        messages::warn(&format!("Ctrl-C may leave temporary files behind: {error}"));
    }
    let result = match arguments.command {
        Command::Chart(arguments) => commands::chart::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Compile(arguments) => commands::compile::run(&arguments),
        Command::Completions(arguments) => commands::documents::completions(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Keygen(arguments) => commands::keygen::run(&arguments),
        Command::Man(arguments) => commands::documents::man(&arguments),
        Command::New(arguments) => commands::new::run(&arguments),
        Command::Pack(arguments) => commands::pack::run(&arguments),
        Command::Report(arguments) => commands::report::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Sign(arguments) => commands::sign::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
    };
    result.unwrap_or_else(|failure: Failure| {
        if image::interrupt::requested() {
            Failure::new("interrupted").show();
            return ExitCode::from(INTERRUPTED);
        }
        failure.show();
        ExitCode::FAILURE
    })
}
