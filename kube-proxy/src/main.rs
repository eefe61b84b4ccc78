//! kube-proxy, as a program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component::app::main::<kube_proxy::app::KubeProxy>()
}
