//! Publishing with the real command line, and how much memory that took.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::procfs;
use crate::servers::{PROJECT, Place, Server, clean_environment};
use crate::settle::settle;

/// How often the command's memory is looked at. What it grows by in its last moments is not seen.
const STEP: Duration = Duration::from_millis(5);

/// Publishes the place's files to a Pinstone that has no data yet, and stops it when it has nothing left to do.
pub(crate) fn publish(pinstone: &Server, place: &Place) -> Result<()> {
    let empty = pinstone.start(place, "localhost", "/api/v1/health")?;
    deploy(pinstone, place, empty.port, &place.root, PROJECT)?;
    settle(&empty, pinstone.name)?;
    empty.stop()
}

/// Publishes a folder as a project's `prod`. Gives the most memory that the command had, in bytes.
pub(crate) fn deploy(pinstone: &Server, place: &Place, port: u16, folder: &Path, project: &str) -> Result<u64> {
    let token = pinstone.data(place).join("owner.token");
    let token = fs::read_to_string(token).context("the server wrote no owner's token")?;
    // `taskset` becomes the command, so the process id is the command's.
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &place.cores]).arg(pinstone.program()).args(["--quiet", "deploy"]).arg(folder);
    command.args(["--project", project, "--prod", "--yes"]);
    clean_environment(&mut command, &place.folder);
    command.env("PINSTONE_ENDPOINT", format!("http://127.0.0.1:{port}")).env("PINSTONE_TOKEN", token.trim());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().context("cannot run `pinstone deploy`")?;
    let pid = child.id();
    let (ended, end) = channel::<()>();
    let (output, peak) = thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut peak = 0;
            // The kernel keeps the peak, so only the last reading matters; it is gone with the process.
            while end.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                peak = procfs::peak(pid).unwrap_or(peak);
            }
            peak
        });
        let output = child.wait_with_output();
        drop(ended);
        (output, watch.join().unwrap_or_default())
    });
    let output = output.context("cannot run `pinstone deploy`")?;
    ensure!(output.status.success(), "`pinstone deploy` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(peak)
}
