//! The process shell of a daemon: arguments, logs, runtime, signals, drain, exit code.
//!
//! A daemon implements [`Daemon`] and its `main` is `component::app::main::<TheDaemon>()`. In order: the TLS provider is
//! installed, flags are parsed, `--help` and `--version` answered, flags and the files they name turned into a
//! configuration ([`Daemon::configure`], all problems at once), logs installed, the runtime built, [`Daemon::run`]
//! driven until it returns or a signal drains it. The second signal ends the process at once with code 1.
//! Does not do: daemonizing, pid files, changing users. Upstream: component-base/cli/run.go,
//! apiserver/pkg/server/signal.go.

mod check;
mod gather;
mod heap;
mod notify;
mod signals;
mod tasks;
mod text;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sys::MappedText;
use tokio_util::sync::CancellationToken;

use crate::flags::{Command, FlagSet, Kind, Section, flag, terminal_width};
use crate::{logs, version};

pub use check::{File, Reference};
pub use notify::Notifier;
pub use tasks::Tasks;

/// Any error that ends a daemon.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Our own additions to every daemon's flags; upstream has none of them.
pub const OWN_FLAGS: &[&str] = &["check-config"];

/// The section with our own additions; every flag set has it.
pub const OWN_SECTION: Section = Section {
    title: "Global",
    flags: &[flag(
        "check-config",
        Kind::Bool,
        "false",
        "read the flags and every file they name, print all problems, start nothing, exit 1 when there are any",
    )],
};

/// What sets one daemon apart from another.
pub trait Daemon: Sized + Send + 'static {
    /// Name, help text and flag tables.
    const COMMAND: &'static Command;

    /// Whether one thread does everything: for a daemon whose work is one sequence of short steps, where handing them
    /// from thread to thread costs more than a second core gives.
    const ONE_THREAD: bool = false;

    /// How long one thread that is busy lets work gather, see `gather.rs`; zero for a daemon whose answers others wait for.
    const GATHER: Duration = Duration::ZERO;

    /// Turns flags, and the files they name, into a configuration; starts nothing.
    ///
    /// # Errors
    /// Every problem found, each naming its flag or file (with line where known).
    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>>;

    /// The files that the configuration file names, for `--check-config`.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// How to log, as flags and configuration file say.
    fn logging(&self) -> logs::Options;

    /// Serves until `process` drains. An error ends the process with code 1, `Ok` with 0.
    fn run(self, process: Process) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What a running daemon gets from its shell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    /// Cancelled when the process is to drain.
    pub shutdown: CancellationToken,
    /// Starts named tasks and waits for them at the end.
    pub tasks: Tasks,
    /// The command line as parsed.
    pub flags: Arc<FlagSet>,
    /// Messages to the service manager.
    pub notifier: Notifier,
    /// When the process started.
    pub started: Instant,
}

impl Process {
    /// For tests that run a daemon in-process.
    pub fn detached(flags: FlagSet) -> Self {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        Process {
            shutdown,
            tasks,
            flags: Arc::new(flags),
            notifier: Notifier::disabled(),
            started: Instant::now(),
        }
    }
}

/// How long tasks may take to end once the daemon's own `run` has returned.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs a daemon with the process's arguments.
pub fn main<D: Daemon>() -> ExitCode {
    // Before anything loads more.
    let mapped = MappedText::now().ok();
    // Nothing may open a TLS connection before its provider is chosen; another choice made earlier is kept.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    let flags = match command_line(D::COMMAND, args) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let checking = flags.has("check-config") && flags.bool("check-config");
    let configured = D::configure(&flags);
    if checking {
        return checked::<D>(&flags, configured);
    }
    let daemon = match configured {
        Ok(daemon) => daemon,
        Err(problems) => {
            logs::init(&logs::Options::default());
            return failed(&aggregate(&problems));
        }
    };
    logs::init(&daemon.logging());
    match runtime::<D>() {
        Ok(runtime) => {
            let result = runtime.block_on(supervise(daemon, flags, mapped));
            // Blocking work that is stuck must not keep the process alive.
            runtime.shutdown_timeout(Duration::from_secs(1));
            match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&chain(error.as_ref())),
            }
        }
        Err(error) => failed(&format!("starting worker threads: {error}")),
    }
}

/// Answers `--check-config`.
fn checked<D: Daemon>(flags: &FlagSet, configured: Result<D, Vec<String>>) -> ExitCode {
    let (references, mut problems) = match configured {
        Ok(daemon) => (daemon.references(), Vec::new()),
        Err(problems) => (Vec::new(), problems),
    };
    for problem in check::problems(flags, references) {
        // The daemon may have read the file already and said the same.
        let why = problem.split_once(": ").map_or(problem.as_str(), |(_, why)| why);
        if !problems.iter().any(|p| p.contains(why)) {
            problems.push(problem);
        }
    }
    for problem in &problems {
        eprintln!("{}: {problem}", D::COMMAND.name);
    }
    if problems.is_empty() {
        println!("{}: the configuration is valid", D::COMMAND.name);
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

async fn supervise<D: Daemon>(daemon: D, flags: FlagSet, mapped: Option<MappedText>) -> Result<(), Error> {
    let shutdown = CancellationToken::new();
    let tasks = Tasks::new(shutdown.clone());
    signals::watch(shutdown.clone())?;
    let notifier = Notifier::from_environment();
    let process = Process {
        shutdown: shutdown.clone(),
        tasks: tasks.clone(),
        flags: Arc::new(flags),
        notifier,
        started: Instant::now(),
    };
    process.notifier.start_watchdog(&process.tasks);
    process.tasks.spawn("text", text::release(mapped, shutdown.clone()));
    let result = tokio::select! {
        result = daemon.run(process.clone()) => result,
        never = heap::tell() => match never {},
    };
    shutdown.cancel();
    process.notifier.stopping();
    tasks.join(DRAIN).await;
    result.and_then(|()| tasks.failure())
}

/// When a daemon has started and caught up with its cluster.
const SETTLED: Duration = Duration::from_secs(30);

/// One worker per core, or one thread for all; blocking work is rare and short, so few threads for it.
fn runtime<D: Daemon>() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if D::ONE_THREAD {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        if D::GATHER.is_zero() {
            builder.on_thread_park(heap::before_waiting);
        } else {
            let gather = Arc::new(gather::Gather::new(D::GATHER));
            let before = gather.clone();
            builder.on_thread_park(move || {
                heap::before_waiting();
                before.before_waiting();
            });
            builder.on_thread_unpark(move || gather.after_waiting());
        }
        builder
    } else {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(cores).on_thread_park(heap::before_waiting);
        builder
    };
    builder.max_blocking_threads(64).thread_name(D::COMMAND.name).enable_all().build()
}

/// Parses arguments; `Err` is the exit code when there is nothing more to do.
fn command_line(command: &Command, args: impl Iterator<Item = String>) -> Result<FlagSet, ExitCode> {
    let mut flags = command.flag_set();
    let parsed = flags.parse(args);
    for warning in flags.take_warnings() {
        eprintln!("{warning}");
    }
    let kubelet = command.name == "kubelet";
    match parsed {
        Err(error) if kubelet => {
            // The kubelet parses by itself, after its logs are set up. Upstream: cmd/kubelet/app/server.go.
            logs::init(&logs::Options::default());
            return Err(failed(&format!("failed to parse kubelet flag: {error}")));
        }
        Err(error) => {
            eprint!("{}\nError: {error}\n", command.usage(&flags, terminal_width()));
            return Err(ExitCode::FAILURE);
        }
        Ok(rest) if flags.bool("help") => {
            let _ = rest;
            print!("{}", command.help(&flags, terminal_width()));
            return Err(ExitCode::SUCCESS);
        }
        Ok(rest) if !rest.is_empty() && kubelet => {
            logs::init(&logs::Options::default());
            return Err(failed(&format!("unknown command {}", rest[0])));
        }
        Ok(rest) if !rest.is_empty() => {
            let list: Vec<String> = rest.iter().map(|a| machinery::golang::quote(a)).collect();
            eprintln!(
                "Error: {} does not take any arguments, got [{}]",
                machinery::golang::quote(command.name),
                list.join(" ")
            );
            return Err(ExitCode::FAILURE);
        }
        Ok(_) => {}
    }
    match flags.string("version") {
        "raw" => println!("{}", version::raw()),
        "true" => println!("Kubernetes {}", version::reported()),
        text => {
            if text.starts_with('v') {
                version::set_dynamic(text);
            }
            return Ok(flags);
        }
    }
    Err(ExitCode::SUCCESS)
}

/// One problem as it is, several in brackets. Upstream: utilerrors.Aggregate.
fn aggregate(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    for _ in 0..16 {
        let Some(cause) = source else { break };
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn failed(why: &str) -> ExitCode {
    tracing::error!(err = why, "command failed");
    ExitCode::FAILURE
}
