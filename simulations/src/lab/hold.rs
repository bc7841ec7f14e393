//! The holder of a pod: the process that keeps its namespaces, as a runtime's pause container does.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// `__hold FOLDER`: takes a mount namespace whose root holds `etc/resolv.conf` and `etc/hostname` of the sandbox FOLDER and
/// nothing else, says `ready` on its output, and waits to be killed.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let Some(folder) = args.first().map(PathBuf::from) else { return ExitCode::from(2) };
    match furnish(&folder).and_then(|()| {
        let mut out = io::stdout().lock();
        out.write_all(b"ready\n")?;
        out.flush()
    }) {
        Ok(()) => loop {
            nix::unistd::pause();
        },
        Err(error) => {
            let _nobody_listens = writeln!(io::stderr(), "holder of {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn furnish(sandbox: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let root = sandbox.join("rootfs");
    std::fs::create_dir_all(&root)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("rootfs"), &root, Some("tmpfs"), safe, Some("mode=0755"))?;
    std::fs::create_dir(root.join("etc"))?;
    for name in ["resolv.conf", "hostname"] {
        let inside = root.join("etc").join(name);
        std::fs::File::create(&inside)?;
        // Bound, not copied: what the kubelet writes into the sandbox is what the pod sees.
        mount(Some(&sandbox.join(name)), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    std::env::set_current_dir(&root)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
