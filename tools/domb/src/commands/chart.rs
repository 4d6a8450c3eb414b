//! `domb chart`: a boot's log as a picture.

use std::path::Path;
use std::process::ExitCode;

use image::chart::{self, Timeline};
use image::files;

use crate::arguments::Chart;
use crate::messages::{self, Failure};

/// The largest log that is read. A boot of a thousand VMs writes about a megabyte.
const MAX_LEN: u64 = 256 << 20;

pub(crate) fn run(arguments: &Chart) -> Result<ExitCode, Failure> {
    let draw = draw_for(arguments.output.as_deref())?;
    let log = files::read_bounded(&arguments.log, MAX_LEN)?;
    let timeline = Timeline::read(&String::from_utf8_lossy(&log)).ok_or_else(|| {
        Failure::new(format!(
            "{}: there is no line of db-boot in it; `domb run --log FILE` writes a log that has them, \
             unless db-boot was told loglevel=warn or loglevel=error",
            arguments.log.display()
        ))
    })?;
    let picture = draw(&timeline);
    match &arguments.output {
        Some(path) => files::write_whole(path, |out| out.write_all(picture.as_bytes()))?,
        None => messages::result(&picture)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How to draw for a file of this name.
fn draw_for(output: Option<&Path>) -> Result<fn(&Timeline) -> String, Failure> {
    let Some(path) = output else { return Ok(chart::svg) };
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("svg") => Ok(chart::svg),
        Some("html" | "htm") => Ok(chart::html),
        _ => Err(Failure::new(format!(
            "{}: the name of a picture ends with .svg, .html or .htm",
            path.display()
        ))),
    }
}
