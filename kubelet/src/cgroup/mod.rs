//! Control groups: the tree of service classes, one group per pod, and their limits.
//!
//! Start at [`manager`]. [`tree`] says which groups there are, [`classes`] what those of service classes get and [`name`]
//! how each driver spells them; [`fs`] makes, limits and removes them on both hierarchies; with the systemd driver [`systemd`] does it first, told by [`property`]. [`detect`]
//! asks the runtime for its driver. [`in_force`] reads limits back. [`daemons`] keeps the machine's own processes in groups; [`memory`] reads what a group has and waits until that changes. Containers' own groups are made by the runtime. Upstream: pkg/kubelet/cm, v1.37.

pub mod allocatable;
pub mod classes;
pub mod daemons;
pub mod detect;
pub mod fs;
pub mod in_force;
pub mod manager;
pub mod memory;
pub mod name;
pub mod property;
pub mod systemd;
pub mod tree;
