//! A server of one's own: the real binary, a fresh data folder, a free port.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::site::Files;
use crate::wire::{Connection, Response};

/// When something that has to happen counts as broken. Nothing waits this long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program that is tested.
const BINARY: &str = env!("CARGO_BIN_EXE_pinstone");

/// A data folder, and mostly a server on it. Dropped, the server is killed and everything removed.
#[derive(Debug)]
pub(crate) struct World {
    folder: TempDir,
    /// Where the data folder and the server's log are.
    disk: PathBuf,
    server: Option<Server>,
    arguments: Vec<String>,
    /// The program, with its arguments, that the server is started by.
    starter: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    url: String,
    address: SocketAddr,
}

/// What a run of the command line gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Checks the exit code, and shows everything where it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The one object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl World {
    /// Starts a server with defaults.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let mut world = Self::stopped();
        world.serve_with(arguments);
        world.restart();
        world
    }

    /// A place for a data folder, without a server.
    pub(crate) fn stopped() -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        for name in ["home", "work"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let disk = folder.path().to_owned();
        Self { folder, disk, server: None, arguments: Vec::new(), starter: Vec::new(), variables: Vec::new() }
    }

    /// As [`World::stopped`], with the data folder and the server's log below `disk`.
    pub(crate) fn stopped_on(disk: &Path) -> Self {
        let mut world = Self::stopped();
        world.disk = disk.to_owned();
        world
    }

    /// Has servers started by another program from now on, which gets the server's command line as its last arguments.
    pub(crate) fn start_by(&mut self, starter: Vec<String>) {
        self.starter = starter;
    }

    /// Gives the servers that are started from now on these arguments.
    pub(crate) fn serve_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// Sets variables for every command from now on.
    pub(crate) fn set_variables(&mut self, variables: Vec<(&'static str, String)>) {
        self.variables.extend(variables);
    }

    /// Starts a server on the data folder; there must be none.
    pub(crate) fn restart(&mut self) {
        if let Err(status) = self.try_restart() {
            panic!("the server did not start ({status:?}):\n{}", self.logged());
        }
    }

    /// As [`World::restart`], for a server that may end before it listens: then how it ended.
    pub(crate) fn try_restart(&mut self) -> Result<(), ExitStatus> {
        assert!(self.server.is_none(), "one server at a time");
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.server_command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(self.data()).args(&self.arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (found, wait) = mpsc::channel();
        // Read to the end: a server whose output nobody reads would stop one day.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("listening on ") {
                    let _ = found.send(url.to_owned());
                }
            }
        });
        match wait.recv_timeout(PATIENCE) {
            Ok(url) => {
                let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
                let port: u16 = port.unwrap_or_else(|| panic!("no port in {url}"));
                self.server = Some(Server { child, url, address: SocketAddr::from(([127, 0, 0, 1], port)) });
                Ok(())
            }
            Err(error) => {
                if error == mpsc::RecvTimeoutError::Timeout {
                    let _ = child.kill();
                }
                Err(child.wait().unwrap())
            }
        }
    }

    /// The binary, in an environment without settings of the machine's user.
    pub(crate) fn command(&self) -> Command {
        self.in_clean_environment(Command::new(BINARY))
    }

    fn server_command(&self) -> Command {
        let Some((program, arguments)) = self.starter.split_first() else { return self.command() };
        let mut command = Command::new(program);
        command.args(arguments).arg(BINARY);
        self.in_clean_environment(command)
    }

    fn in_clean_environment(&self, mut command: Command) -> Command {
        let is_setting = |name: &str| name.starts_with("PINSTONE_") || name.starts_with("AWS_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.home())
            .env("XDG_CONFIG_HOME", self.home())
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .current_dir(self.work());
        command
    }

    /// Runs the command line against the server, as the owner.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.env("PINSTONE_ENDPOINT", self.url()).env("PINSTONE_TOKEN", self.token()).args(arguments);
        run(command)
    }

    /// Runs the command line against the server as whoever is signed in, with `input` on its standard input.
    #[track_caller]
    pub(crate) fn user(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command();
        command.args(arguments).args(["--endpoint", self.url()]);
        run_with(command, input)
    }

    /// Checks the data folder. The server must be stopped.
    #[track_caller]
    pub(crate) fn fsck(&self) -> Output {
        let mut command = self.command();
        command.arg("fsck").arg("--data").arg(self.data());
        run(command)
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.disk.join("data")
    }

    /// The folder of the user's configuration.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder that commands run in.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Makes a folder with files in it, to be published.
    pub(crate) fn folder(&self, name: &str, files: &Files) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        crate::site::write(&folder, files);
        folder
    }

    /// The owner's token.
    pub(crate) fn token(&self) -> String {
        let token = std::fs::read_to_string(self.data().join("owner.token")).expect("the first start wrote it");
        token.trim().to_owned()
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server().address
    }

    /// The server's address as it prints it.
    pub(crate) fn url(&self) -> &str {
        &self.server().url
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server().child.id()
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a server runs")
    }

    fn log(&self) -> PathBuf {
        self.disk.join("server.log")
    }

    /// What the server wrote to its log so far.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Ends the server at once, as a power cut would end the process.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("a server runs");
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    /// Asks the server to end, and does not wait.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.server().child);
        kill_process(pid, Signal::TERM).expect("the server runs");
    }

    /// Asks the server to end, and waits until it did.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Whether the server has ended.
    pub(crate) fn is_gone(&mut self) -> bool {
        let server = self.server.as_mut().expect("a server was started");
        server.child.try_wait().unwrap().is_some()
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("a server runs");
        let mut status = None;
        until("the server ended", || {
            status = server.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it was waited for")
    }

    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut all = vec![("Host", host), ("Connection", "close")];
        all.extend_from_slice(headers);
        Connection::open(self.address()).request(method, target, &all, b"")
    }

    /// GET on a connection of its own.
    pub(crate) fn get(&self, host: &str, target: &str) -> Response {
        self.request("GET", host, target, &[])
    }

    /// A call of the API as the owner, on a connection of its own.
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        self.try_api(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.logged()))
    }

    /// As [`World::api`], for servers that may be gone.
    pub(crate) fn try_api(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Response> {
        Api { address: self.address(), token: self.token() }.call(method, path, body)
    }

    /// Registers or logs in as nobody yet, by this call, which has to have this status: the token.
    pub(crate) fn sign_in(&self, path: &str, status: u16, body: &Value) -> String {
        let headers = [("Host", "localhost"), ("Connection", "close"), ("Content-Type", "application/json")];
        let mut connection = Connection::try_open(self.address()).unwrap();
        let path = format!("/api/v1{path}");
        let answer = connection.try_request("POST", &path, &headers, body.to_string().as_bytes()).unwrap();
        answer.expect(status).json()["token"].as_str().unwrap().to_owned()
    }

    /// Plans, uploads what is missing, and commits: the image's id.
    pub(crate) fn commit(&self, project: &str, files: &Files) -> String {
        let api = Api { address: self.address(), token: self.token() };
        api.commit(project, files).unwrap_or_else(|error| panic!("{error}\n{}", self.logged()))
    }

    /// Points an environment at an image.
    #[track_caller]
    pub(crate) fn release(&self, project: &str, environment: &str, image: &str) -> Value {
        let body = json!({"project": project, "environment": environment, "image_id": image});
        self.api("POST", "/release", Some(&body)).expect(200).json()
    }

    /// Publishes files to `prod`: the image's id.
    #[track_caller]
    pub(crate) fn publish(&self, project: &str, files: &Files) -> String {
        let image = self.commit(project, files);
        self.release(project, "prod", &image);
        image
    }

    /// The most memory that the server has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}", self.logged());
        }
    }
}

/// The API of a server that may end at any moment.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Api {
    /// One call, on a connection of its own.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Response> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.send(method, path, "application/json", body.as_bytes())
    }

    /// One call with any body.
    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> std::io::Result<Response> {
        let bearer = format!("Bearer {}", self.token);
        let headers =
            [("Host", "localhost"), ("Connection", "close"), ("Authorization", &*bearer), ("Content-Type", kind)];
        Connection::try_open(self.address)?.try_request(method, &format!("/api/v1{path}"), &headers, body)
    }

    /// Sends a plan of `files`.
    pub(crate) fn plan(&self, project: &str, files: &Files) -> std::io::Result<Response> {
        self.call("POST", "/plan", Some(&plan(project, files)))
    }

    /// Plans, uploads what is missing, and commits: the image's id. An error status is an error.
    ///
    /// Of small files every other one goes up in a batch, so that both ways are used.
    pub(crate) fn commit(&self, project: &str, files: &Files) -> std::io::Result<String> {
        let plan = good(self.plan(project, files)?)?;
        let id = plan["plan_id"].as_str().expect("a plan has an id");
        let mut batch = Vec::new();
        for (number, missing) in plan["missing"].as_array().expect("never null").iter().enumerate() {
            let hash = missing["hash"].as_str().expect("a blob has a hash");
            let (_, bytes) =
                files.iter().find(|(_, bytes)| *blake3::hash(bytes).to_hex() == *hash).expect("it was planned");
            if number % 2 == 0 && bytes.len() <= 64 << 10 {
                batch.extend_from_slice(blake3::hash(bytes).as_bytes());
                batch.extend_from_slice(&u32::try_from(bytes.len()).expect("it is small").to_le_bytes());
                batch.extend_from_slice(bytes);
            } else {
                good(self.send("PUT", &format!("/upload/{id}/{hash}"), "application/octet-stream", bytes)?)?;
            }
        }
        if !batch.is_empty() {
            let taken = self.send("POST", &format!("/upload/{id}"), "application/vnd.pinstone.blobs", &batch)?;
            assert_eq!(good(taken)?["failed"], json!([]));
        }
        let commit = good(self.call("POST", "/commit", Some(&json!({"plan_id": id})))?)?;
        Ok(commit["image_id"].as_str().expect("a commit has an image").to_owned())
    }

    /// Points an environment at an image: the release.
    pub(crate) fn release(&self, project: &str, environment: &str, image: &str) -> std::io::Result<Value> {
        let body = json!({"project": project, "environment": environment, "image_id": image});
        good(self.call("POST", "/release", Some(&body))?)
    }
}

fn good(response: Response) -> std::io::Result<Value> {
    if matches!(response.status, 200 | 201) {
        return Ok(response.json());
    }
    Err(std::io::Error::other(format!("{} {}", response.status, String::from_utf8_lossy(&response.body))))
}

/// The body of a plan.
pub(crate) fn plan(project: &str, files: &Files) -> Value {
    let files: Vec<Value> = files
        .iter()
        .map(
            |(path, bytes)| json!({"path": path, "blake3": blake3::hash(bytes).to_hex().as_str(), "size": bytes.len()}),
        )
        .collect();
    json!({"project": project, "files": files})
}

/// Says that something is not tested on this machine, and why.
pub(crate) fn skip(what: &str, reason: &str) {
    use std::io::Write;
    // Past the test runner, which shows nothing of tests that pass.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {reason}");
}

/// A number from the environment, where it is set.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seed that a test takes its chances from: given, or new. It is printed, so that a failure can be repeated.
pub(crate) fn seed(name: &str) -> u64 {
    let seed = setting(name).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        u64::from(now.subsec_nanos())
    });
    println!("{name}={seed}");
    seed
}

/// A number that looks random and follows from `seed` and `what`.
pub(crate) fn random(seed: u64, what: impl std::fmt::Display) -> u64 {
    let bytes = crate::site::noise(&format!("{seed}-{what}"), 8);
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code().unwrap_or_else(|| panic!("{:?} ended by a signal: {output:?}", command)),
        stdout: String::from_utf8(output.stdout).expect("what people read is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("what people read is UTF-8"),
    }
}

/// Runs a command to its end, with `input` on its standard input.
#[track_caller]
pub(crate) fn run_with(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that has no use for it ends without reading it.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?} ended by a signal: {output:?}")),
        stdout: String::from_utf8(output.stdout).expect("what people read is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("what people read is UTF-8"),
    }
}

/// Polls until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every regular file below `folder`.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}
