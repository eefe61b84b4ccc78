//! kube-proxy, as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    component::app::main::<kube_proxy::app::KubeProxy>()
}
