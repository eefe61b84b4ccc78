//! `kube-controller-manager`. Start reading at `app.rs`.

use std::process::ExitCode;

mod app;
mod context;
mod controllers;
mod credentials;
mod descriptor;
mod flags;
mod options;
mod serving;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component::app::main::<app::KubeControllerManager>()
}
