//! The commands of the builder's prompt.

use alloc::string::String;
use core::fmt::Write as _;

use nearest::suggestion;
use thiserror::Error;

/// What stands before the cursor at the prompt.
pub(crate) const PROMPT: &str = "db-boot> ";

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Show the commands.
    Help,
    /// Show the VMs.
    List,
    /// Give the keyboard to this VM.
    Console(&'a str),
    /// Give it to the next one.
    Next,
    /// Ask this VM to power off, or all.
    Shutdown(Option<&'a str>),
    /// Destroy this VM.
    Destroy(&'a str),
    /// Stop this VM for a while.
    Pause(&'a str),
    /// Let it go on.
    Unpause(&'a str),
    /// Show what Xen has said.
    Dmesg,
    /// End the platform.
    Poweroff,
    /// Back to the VM.
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// It begins with a word that is none.
    #[error("there is no command {word:?}{}; `help` shows all", suggestion(.word, COMMANDS.iter().map(|entry| entry.name)))]
    Unknown {
        /// The word.
        word: String,
    },
    /// It lacks the VM's name.
    #[error("{command} which VM? `{command} NAME`; `list` shows the names")]
    NoName {
        /// The command.
        command: &'static str,
    },
    /// It has a word too many.
    #[error("{command} takes {}: what is {word:?}?", if *.takes_name { "one name" } else { "no name" })]
    TooMuch {
        /// The command.
        command: &'static str,
        /// Whether it takes a name.
        takes_name: bool,
        /// The first word too many.
        word: String,
    },
}

/// How a command is made.
#[derive(Clone, Copy)]
enum Make {
    Plain(Command<'static>),
    Named(for<'a> fn(&'a str) -> Command<'a>),
    Optional(for<'a> fn(Option<&'a str>) -> Command<'a>),
}

/// A command as the user knows it.
struct Entry {
    name: &'static str,
    make: Make,
    help: &'static str,
}

const fn plain(name: &'static str, command: Command<'static>, help: &'static str) -> Entry {
    Entry { name, make: Make::Plain(command), help }
}

const fn named(name: &'static str, make: for<'a> fn(&'a str) -> Command<'a>, help: &'static str) -> Entry {
    Entry { name, make: Make::Named(make), help }
}

const fn optional(
    name: &'static str,
    make: for<'a> fn(Option<&'a str>) -> Command<'a>,
    help: &'static str,
) -> Entry {
    Entry { name, make: Make::Optional(make), help }
}

const fn shutdown(name: Option<&str>) -> Command<'_> {
    Command::Shutdown(name)
}

/// Every command, in the order in which `help` shows them.
const COMMANDS: [Entry; 11] = [
    plain("help", Command::Help, "this"),
    plain("list", Command::List, "the VMs; * has the keyboard"),
    named("console", |name| Command::Console(name), "give a VM the keyboard"),
    plain("next", Command::Next, "give it to the next VM (Ctrl-N does so too)"),
    optional("shutdown", shutdown, "ask a VM, or all, to power off; it is not restarted"),
    named("destroy", |name| Command::Destroy(name), "destroy a VM at once; it is not restarted"),
    named("pause", |name| Command::Pause(name), "stop a VM"),
    named("unpause", |name| Command::Unpause(name), "let it go on"),
    plain("dmesg", Command::Dmesg, "what Xen has said"),
    plain(
        "poweroff",
        Command::Poweroff,
        "end the platform: VMs that can be asked power off, the others are destroyed",
    ),
    plain("quit", Command::Quit, "back to the VM (Ctrl-D does so too)"),
];

impl<'a> Command<'a> {
    /// Reads a line; `None` for one without a word.
    pub fn parse(line: &'a str) -> Result<Option<Self>, CommandError> {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else { return Ok(None) };
        let Some(entry) = COMMANDS.iter().find(|entry| entry.name == word) else {
            return Err(CommandError::Unknown { word: word.into() });
        };
        let command = entry.name;
        let (made, takes_name) = match entry.make {
            Make::Plain(made) => (made, false),
            Make::Named(make) => (make(words.next().ok_or(CommandError::NoName { command })?), true),
            Make::Optional(make) => (make(words.next()), true),
        };
        match words.next() {
            Some(word) => Err(CommandError::TooMuch { command, takes_name, word: word.into() }),
            None => Ok(Some(made)),
        }
    }
}

/// What `help` shows.
pub(crate) fn help() -> String {
    let mut text = String::new();
    for Entry { name, make, help } in &COMMANDS {
        let argument = match make {
            Make::Plain(_) => "",
            Make::Named(_) => " NAME",
            Make::Optional(_) => " [NAME]",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:15} {help}", alloc::format!("{name}{argument}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_command_is_read_and_has_a_line_of_help() {
        for entry in &COMMANDS {
            let line = match entry.make {
                Make::Plain(_) => entry.name.to_string(),
                Make::Named(_) | Make::Optional(_) => alloc::format!(" {}  vm ", entry.name),
            };
            let command = Command::parse(&line).unwrap().unwrap();
            let word = alloc::format!("{command:?}").to_lowercase();
            assert!(word.starts_with(entry.name), "{line} is {command:?}");
            assert!(help().lines().any(|line| line.starts_with(entry.name)), "{}", help());
        }
        assert_eq!(Command::parse("destroy web"), Ok(Some(Command::Destroy("web"))));
        assert_eq!(Command::parse("shutdown"), Ok(Some(Command::Shutdown(None))));
        assert_eq!(Command::parse("shutdown web"), Ok(Some(Command::Shutdown(Some("web")))));
        assert_eq!(Command::parse("  "), Ok(None));
    }

    #[test]
    fn a_line_that_is_no_command_gets_told_what_would_be() {
        for (line, message) in [
            ("destory web", "there is no command \"destory\" (did you mean \"destroy\"?); `help` shows all"),
            ("reboot", "there is no command \"reboot\"; `help` shows all"),
            ("console", "console which VM? `console NAME`; `list` shows the names"),
            ("console a b", "console takes one name: what is \"b\"?"),
            ("shutdown a b", "shutdown takes one name: what is \"b\"?"),
            ("list all", "list takes no name: what is \"all\"?"),
        ] {
            assert_eq!(Command::parse(line).unwrap_err().to_string(), message);
        }
    }
}
