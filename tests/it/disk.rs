//! Disks of a test's own, which can be full and can lose their power. Only root can mount them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::world::until;

/// A file system of its own, mounted in a temporary folder. Dropped, it is unmounted and removed.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: TempDir,
    is_mounted: bool,
}

impl Disk {
    /// A file system in memory with room for `bytes`. Where that is not permitted, the reason.
    pub(crate) fn in_memory(bytes: u64) -> Result<Self, String> {
        let mut disk = Self::unmounted()?;
        let mut mount = Command::new("mount");
        done(mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(disk.path()))?;
        disk.is_mounted = true;
        Ok(disk)
    }

    /// An ext4 file system of `bytes` on a loop device. Where that is not permitted, the reason.
    pub(crate) fn ext4(bytes: u64) -> Result<Self, String> {
        let mut disk = Self::unmounted()?;
        let image = std::fs::File::create(disk.image()).map_err(|error| error.to_string())?;
        image.set_len(bytes).map_err(|error| error.to_string())?;
        done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    fn unmounted() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount a file system".to_owned());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("disk")).map_err(|error| error.to_string())?;
        Ok(Self { folder, is_mounted: false })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Mounts an ext4 file system, which replays its journal.
    pub(crate) fn mount(&mut self) -> Result<(), String> {
        done(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Cuts the power of an ext4 file system: what is not on the disk now, its journal included, never will be.
    pub(crate) fn cut(&self) -> Result<(), String> {
        shut_down(&self.path())
    }

    /// Unmounts it, as soon as nobody uses it any more.
    pub(crate) fn unmount(&mut self) {
        let path = self.path();
        until("the disk is unmounted", || done(Command::new("umount").arg(&path)).is_ok());
        self.is_mounted = false;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Also where something on it is still open: it goes with the last user.
            let _ = done(Command::new("umount").arg("--lazy").arg(self.path()));
        }
    }
}

/// The shutdown ioctl of ext4 without writing the journal, which only other programs can ask for without `unsafe`.
fn shut_down(mount: &Path) -> Result<(), String> {
    let by_xfs_io = done(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(mount)).map(drop);
    by_xfs_io.or_else(|reason| {
        // _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH of Linux's ext4.
        let script = "import fcntl, os, struct, sys\n\
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        let by_python = done(Command::new("python3").args(["-c", script]).arg(mount)).map(drop);
        by_python.map_err(|error| format!("{reason}; {error}"))
    })
}

/// Runs a command; where it is not there or fails, the reason.
pub(crate) fn done(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("`{name}` cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
