//! `kube-scheduler`. Start reading at `app.rs`; one attempt to place a pod is `cycle.rs`.

use std::process::ExitCode;

mod actions;
mod app;
mod config;
mod cycle;
mod flags;
mod framework;
mod handlers;
mod listers;
mod metrics;
mod model;
mod options;
mod plugins;
mod preemption;
mod queue;
mod scheduler;
mod server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component::app::main::<app::KubeScheduler>()
}
