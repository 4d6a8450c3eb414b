//! `domb completions` and `domb man`: what shells and readers want to know about the command line.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_mangen::Man;
use image::files::{self, FileError};

use crate::arguments::{self, Arguments};
use crate::messages::{self, Failure};

/// Writes a shell's completions to standard output.
pub(crate) fn completions(arguments: &arguments::Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "domb", &mut script);
    messages::result(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes domb(1) to standard output, or a page for each command into a folder.
pub(crate) fn man(arguments: &arguments::ManPages) -> Result<ExitCode, Failure> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &arguments.folder else {
        messages::result(&page(&command)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(folder).map_err(|cause| FileError::new("make the folder", folder, cause))?;
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let text = page(command)?;
        files::write_whole(&folder.join(format!("{name}.1")), |out| out.write_all(text.as_bytes()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of one command. Its examples keep their lines.
fn page(command: &clap::Command) -> Result<String, Failure> {
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone())
        .manual("Domain builder")
        .source(format!("domb {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    let fail = |error: std::io::Error| Failure::new(format!("cannot write a manual page: {error}"));
    man.render_title(&mut page).map_err(fail)?;
    man.render_name_section(&mut page).map_err(fail)?;
    man.render_synopsis_section(&mut page).map_err(fail)?;
    man.render_description_section(&mut page).map_err(fail)?;
    man.render_options_section(&mut page).map_err(fail)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page).map_err(fail)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned() + &verbatim("EXAMPLES AND STATUS", &more))
}

/// A section of a page whose lines are shown as they are.
fn verbatim(heading: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut out = format!(".SH \"{heading}\"\n.nf\n");
    for line in text.lines() {
        // A line that starts with a dot or a quote would be an instruction to troff.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        let _ = writeln!(out, "{guard}{}", line.replace('\\', "\\e").replace('-', "\\-"));
    }
    out + ".fi\n"
}

#[cfg(test)]
mod tests {
    use super::verbatim;

    #[test]
    fn nothing_in_a_text_is_an_instruction_to_troff() {
        let shown = verbatim("X", ".so a\n'b\n c\\d -e");
        assert_eq!(shown, ".SH \"X\"\n.nf\n\\&.so a\n\\&'b\n c\\ed \\-e\n.fi\n");
    }
}
