//! Running a program with its output in a log, and with a deadline.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Code(i32),
    /// By a signal that did not come from us.
    Killed,
    /// Not in time; it was made to end.
    Late,
}

/// Runs the command to its end or to the deadline; its output (both streams, as they come) goes to the log file, to
/// the caller and, with `echo`, to our own standard output.
pub(crate) fn capture(
    command: &mut Command,
    log: &Path,
    echo: bool,
    deadline: Duration,
) -> io::Result<(End, String)> {
    fs::create_dir_all(log.parent().unwrap_or(log))?;
    let log = File::create(log)?;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let name = command.get_program().to_string_lossy().into_owned();
    let named = |cause: io::Error| io::Error::new(cause.kind(), format!("cannot start {name}: {cause}"));
    let child = command.spawn().map_err(named)?;
    // The command holds our ends of the pipe: give them up, or the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let copier = thread::spawn(move || copy(reader, log, echo));
    let end = wait(child, deadline)?;
    let output = copier.join().unwrap_or_else(|_| Err(io::Error::other("the log's writer panicked")));
    Ok((end, String::from_utf8_lossy(&output?).into_owned()))
}

fn copy(mut reader: impl Read, mut log: File, mut echo: bool) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let length = reader.read(&mut buffer)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { return Ok(all) };
        all.extend_from_slice(piece);
        log.write_all(piece)?;
        if echo {
            let mut out = io::stdout().lock();
            // Nobody reads it any longer: the log still gets everything.
            echo = out.write_all(piece).and_then(|()| out.flush()).is_ok();
        }
    }
}

/// Waits for the child. Past the deadline it is asked to end (so that it can end a QEMU of its own), then killed.
fn wait(mut child: Child, deadline: Duration) -> io::Result<End> {
    let started = Instant::now();
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if asked { End::Late } else { status.code().map_or(End::Killed, End::Code) });
        }
        let late = started.elapsed();
        if late > deadline && !asked {
            asked = true;
            // The shell's own `kill`: the program of that name is not on every machine.
            Command::new("sh").arg("-c").arg(format!("kill {}", child.id())).status()?;
        }
        if late > deadline + Duration::from_secs(5) {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_captured_whole_with_its_exit_code() {
        let log = std::env::temp_dir().join(format!("harness-capture-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let (code, output) = capture(&mut command, &log, false, Duration::from_secs(10)).unwrap();
        assert_eq!((code, output.as_str()), (End::Code(3), "out\nerr\n"));
        assert_eq!(fs::read_to_string(&log).unwrap(), output);
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(child, Duration::from_millis(20)).unwrap(), End::Late);
    }
}
