//! Running a program with its output in a log, and with a deadline.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::suite::InputSpec;

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

/// What a program printed, and what was typed for it.
#[derive(Debug)]
pub(crate) struct Captured {
    /// How it ended.
    pub(crate) end: End,
    /// All that it printed.
    pub(crate) output: String,
    /// The text that the first input waited for which was not typed; `None` when all were.
    pub(crate) untyped: Option<String>,
}

/// Runs the command to its end or to the deadline; its output (both streams, as they come) goes to the log file, to
/// the caller and, with `echo`, to our own standard output. Its input is `inputs`, each when its text has been printed.
pub(crate) fn capture(
    command: &mut Command,
    log: &Path,
    echo: bool,
    deadline: Duration,
    inputs: &[InputSpec],
) -> io::Result<Captured> {
    fs::create_dir_all(log.parent().unwrap_or(log))?;
    let log = File::create(log)?;
    let (reader, writer) = io::pipe()?;
    let input = if inputs.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(input).stdout(writer.try_clone()?).stderr(writer);
    let name = command.get_program().to_string_lossy().into_owned();
    let named = |cause: io::Error| io::Error::new(cause.kind(), format!("cannot start {name}: {cause}"));
    let mut child = command.spawn().map_err(named)?;
    // The command holds our ends of the pipe: give them up, or the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut typist = Typist::new(inputs, child.stdin.take());
    let copier =
        thread::spawn(move || copy(reader, log, echo, &mut typist).map(|all| (all, typist.untyped())));
    let end = wait(child, deadline)?;
    let results = copier.join().unwrap_or_else(|_| Err(io::Error::other("the log's writer panicked")));
    let (output, untyped) = results?;
    Ok(Captured { end, output: String::from_utf8_lossy(&output).into_owned(), untyped })
}

/// Types for a program what a test says, when it says.
struct Typist {
    /// What is still to be typed.
    inputs: VecDeque<InputSpec>,
    keyboard: Option<ChildStdin>,
    /// What was printed since the last text that was waited for.
    seen: Vec<u8>,
}

impl Typist {
    fn new(inputs: &[InputSpec], keyboard: Option<ChildStdin>) -> Self {
        Self { inputs: inputs.iter().cloned().collect(), keyboard, seen: Vec::new() }
    }

    /// Looks at more of the output.
    fn see(&mut self, piece: &[u8]) {
        if self.inputs.is_empty() {
            return;
        }
        self.seen.extend_from_slice(piece);
        while let Some(input) = self.inputs.front() {
            let text = input.after.as_bytes();
            let Some(at) = self.seen.windows(text.len()).position(|part| part == text) else { return };
            self.seen.drain(..at + text.len());
            if let Some(keyboard) = &mut self.keyboard {
                // A program that has ended reads nothing; what it lacks is found missing in its output.
                let _ = keyboard.write_all(input.send.as_bytes()).and_then(|()| keyboard.flush());
            }
            self.inputs.pop_front();
        }
    }

    /// The text that is still waited for.
    fn untyped(&self) -> Option<String> {
        self.inputs.front().map(|input| input.after.clone())
    }
}

fn copy(mut reader: impl Read, mut log: File, mut echo: bool, typist: &mut Typist) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let length = reader.read(&mut buffer)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { return Ok(all) };
        all.extend_from_slice(piece);
        log.write_all(piece)?;
        typist.see(piece);
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
        let captured = capture(&mut command, &log, false, Duration::from_secs(10), &[]).unwrap();
        assert_eq!((captured.end, captured.output.as_str()), (End::Code(3), "out\nerr\n"));
        assert_eq!(fs::read_to_string(&log).unwrap(), captured.output);
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn each_input_waits_for_its_text() {
        let log = std::env::temp_dir().join(format!("harness-typist-{}.log", std::process::id()));
        let input = |after: &str, send: &str| InputSpec { after: after.into(), send: send.into() };
        let inputs = [input("name? ", "x\n"), input("? ", "y\n"), input("? ", "z\n")];
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'name? '; read -r a; printf 'and? '; read -r b; echo $a$b"]);
        let captured = capture(&mut command, &log, false, Duration::from_secs(10), &inputs).unwrap();
        assert_eq!((captured.end, captured.output.as_str()), (End::Code(0), "name? and? xy\n"));
        assert_eq!(captured.untyped.as_deref(), Some("? "));
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(child, Duration::from_millis(20)).unwrap(), End::Late);
    }
}
