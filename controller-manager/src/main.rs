//! `kube-controller-manager`. Start reading at `app.rs`.

use std::process::ExitCode;

mod app;
mod context;
mod controllers;
mod credentials;
mod descriptor;
mod flags;
mod kept;
mod lagz;
mod options;
mod pods;
#[cfg(test)]
mod scenario;
mod serving;
mod validation;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    api::only_a_client();
    component::app::main::<app::KubeControllerManager>()
}
