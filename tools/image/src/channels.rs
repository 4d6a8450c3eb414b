//! Channels between the VMs of a platform (the key `channels`): both command lines get a word, the server's spec its clients.

use protocols::channel::{ChannelWord, first_channel_port};
use protocols::spec::check_command_line;

use crate::config::VmFile;
use crate::platform::Vm;
use crate::source::{Diagnostic, Spanned, nearest};

/// Settles every channel; gives back what is wrong with those that cannot be.
pub(crate) fn settle(vms: &mut [Vm]) -> Vec<String> {
    let mut problems = Vec::new();
    for server in 0..vms.len() {
        let names = vms[server].file.config.channels.clone();
        for (index, name) in names.iter().enumerate() {
            if let Err(problem) = connect(vms, server, index, name) {
                problems.push(problem.render(&vms[server].file.source));
            }
        }
    }
    problems
}

/// Settles channel `index` of the VM `server`, whose client is called `name`.
fn connect(vms: &mut [Vm], server: usize, index: usize, name: &Spanned<String>) -> Result<(), Diagnostic> {
    let own_name = vms[server].spec.name.clone();
    let error = |message: String| Diagnostic::error(name.span, format!("VM {own_name:?}: {message}"));
    let Some(client) = vms.iter().position(|vm| vm.spec.name == name.value) else {
        let problem =
            error(format!("it serves a channel for {:?}, and there is no VM of that name", name.value));
        let near = nearest(&name.value, vms.iter().map(|vm| vm.spec.name.as_str()));
        return Err(match near {
            Some(near) => problem.with_help(format!("did you mean {near:?}?")),
            None => problem,
        });
    };
    if client == server {
        return Err(error("it serves a channel for itself: name another VM".into()));
    }
    let domid = |vm: &Vm| {
        vm.spec.domid.ok_or_else(|| {
            error(format!("a channel needs the domain ids of both VMs, and {:?} has none", vm.spec.name))
                .with_help(format!("give {:?} one: domid = NUMBER", vm.spec.name))
        })
    };
    let (server_domid, client_domid) = (domid(&vms[server])?, domid(&vms[client])?);
    let first_port = first_channel_port(vms[server].spec.store);
    let pair = ChannelWord::pair(index, first_port, (&own_name, server_domid), (&name.value, client_domid));
    // The number of channels was checked where the file was read.
    let (for_server, for_client) = pair.ok_or_else(|| error("it serves too many channels".into()))?;
    for (vm, word) in [(server, for_server), (client, for_client)] {
        append(&mut vms[vm], &word).map_err(|cause| {
            error(format!("{:?} has no room for {word} on its command line: {cause}", vms[vm].spec.name))
        })?;
    }
    vms[server].spec.channels.clients.push(client_domid);
    Ok(())
}

/// Adds a word to a VM's command line.
fn append(vm: &mut Vm, word: &ChannelWord) -> Result<(), protocols::SpecError> {
    let line = &vm.spec.command_line;
    let line = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
    check_command_line(&line)?;
    vm.spec.command_line = line;
    Ok(())
}

/// What the author of a single file with channels is told.
pub(crate) fn refuse_alone(file: &VmFile) -> Option<String> {
    let first = file.config.channels.first()?;
    let message = format!(
        "VM {:?}: its channel for {:?} is settled when both VMs are packed together",
        file.config.name.value, first.value
    );
    let help = "use `domb pack` or `domb run` with all the files";
    Some(Diagnostic::error(first.span, message).with_help(help).render(&file.source))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::VmFile;
    use crate::platform::{Platform, compile};
    use crate::source::SourceFile;

    /// A VM file with a line of its own.
    fn vm(folder: &Path, name: &str, rest: &str) -> VmFile {
        std::fs::write(folder.join("k"), b"kernel").unwrap();
        let text = format!("name = \"{name}\"\nkernel = \"k\"\nmemory = 8\n{rest}\n");
        VmFile::parse(SourceFile::new(format!("{name}.cfg"), text), folder).unwrap()
    }

    fn load(files: &[(&str, &str)]) -> Result<Platform, String> {
        let folder = tempfile::tempdir().unwrap();
        let files = files.iter().map(|(name, rest)| vm(folder.path(), name, rest)).collect();
        Platform::load(files).map_err(|error| error.to_string())
    }

    #[test]
    fn both_command_lines_and_the_server_are_told() {
        let platform = load(&[
            ("web", "domid = 9"),
            ("store", "domid = 7; channels = ['web', 'log']; extra = 'quiet'"),
            ("log", "domid = 8; channels = 'web'"),
        ])
        .unwrap();
        let line = |index: usize| platform.vms()[index].spec.command_line.as_str();
        assert_eq!(line(0), "vchan=client:store:7:2:2 vchan=client:log:8:2:2");
        assert_eq!(line(1), "quiet vchan=server:web:9:2:2 vchan=server:log:8:3:3");
        assert_eq!(line(2), "vchan=client:store:7:3:3 vchan=server:web:9:2:2");
        let clients = |index: usize| platform.vms()[index].spec.channels.clients.clone();
        assert_eq!([clients(0), clients(1), clients(2)], [vec![], vec![9, 8], vec![9]]);
        for vm in platform.vms() {
            vm.spec.validate().unwrap();
        }
    }

    #[test]
    fn channels_that_cannot_be_are_found_where_they_are_written() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (
                &[("web", "domid = 9"), ("store", "domid = 7; channels = ['wep']")],
                "store.cfg:4:24: VM \"store\": it serves a channel for \"wep\", and there is no VM of that name",
            ),
            (
                &[("web", "domid = 9; channels = 'web'")],
                "web.cfg:4:23: VM \"web\": it serves a channel for itself",
            ),
            (
                &[("web", ""), ("store", "domid = 7; channels = ['web']")],
                "store.cfg:4:24: VM \"store\": a channel needs the domain ids of both VMs, and \"web\" has none",
            ),
            (
                &[("web", "domid = 9"), ("store", "channels = ['web']")],
                "store.cfg:4:13: VM \"store\": a channel needs the domain ids of both VMs, and \"store\" has none",
            ),
        ];
        for (files, expected) in cases {
            let error = load(files).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let long = format!("domid = 9; extra = '{}'", "x".repeat(1000));
        let error = load(&[("web", &long), ("store", "domid = 7; channels = ['web']")]).unwrap_err();
        assert!(error.contains("\"web\" has no room for vchan=client:store:7:2:2"), "{error}");
    }

    #[test]
    fn a_file_with_channels_is_not_compiled_alone() {
        let folder = tempfile::tempdir().unwrap();
        let error = compile(&vm(folder.path(), "store", "domid = 7; channels = ['web']")).unwrap_err();
        assert!(error.to_string().contains("settled when both VMs are packed together"), "{error}");
    }
}
