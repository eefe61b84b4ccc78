//! API Priority and Fairness as pure functions and state machines: no clock, no task, no lock.
//!
//! A configuration of FlowSchemas and PriorityLevelConfigurations is digested ([`config`]) into levels with numbers of
//! seats and into rules that classify requests ([`matching`]). Each level queues and dispatches requests fairly by
//! virtual time ([`queueset`]); levels lend each other unused seats ([`borrowing`]). How many seats a request takes is
//! estimated ([`estimate`]). [`bootstrap`] has the objects every cluster starts with and how they are maintained.
//!
//! Time is an argument everywhere: a duration since any fixed moment. Locks, tasks, metrics and HTTP are the API
//! server's (`apiserver/src/flowcontrol`). Upstream: `k8s.io/apiserver/pkg/util/flowcontrol`. Start with [`queueset`].
pub mod allocation;
pub mod bootstrap;
pub mod borrowing;
pub mod config;
pub mod dropped;
pub mod estimate;
pub mod integrator;
pub mod matching;
pub mod queueset;
pub mod seats;
pub mod shuffle;
pub mod watches;
