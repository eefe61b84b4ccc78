//! kube-apiserver.

use std::process::ExitCode;

use kube_apiserver::app::ApiServer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component::app::main::<ApiServer>()
}
