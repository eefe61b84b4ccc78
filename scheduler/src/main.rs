//! `kube-scheduler`. Start reading at `app.rs`; one attempt to place a pod is `cycle.rs`.

use std::process::ExitCode;

mod actions;
mod app;
mod assumed;
mod config;
mod cycle;
mod devices;
mod extended;
mod extender;
mod flags;
mod framework;
mod group;
mod handlers;
mod listers;
mod metrics;
mod model;
mod options;
mod plugins;
mod prebind;
mod prebind_claims;
mod preemption;
mod queue;
mod scheduler;
mod server;
mod whyz;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    api::only_a_client();
    component::app::main::<app::KubeScheduler>()
}
