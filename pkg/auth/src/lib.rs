//! Who is asking, and may they: authenticators and authorizers, independent of any HTTP server.
//!
//! Start at [`UserInfo`] and [`Attributes`]; [`Authorizer`] answers for one request. Nothing here reads files,
//! opens sockets or talks to a store: callers hand in bytes and watch events.
pub mod authenticator;
pub mod authorizer;
pub mod csr;
pub mod jwt;
pub mod node;
pub mod rbac;
pub mod request_header;
pub mod tokens;
pub mod user;
pub mod x509;

pub use authorizer::{
    AlwaysAllow, AlwaysDeny, Attributes, Authorizer, Decision, Named, PrivilegedGroups, RuleSet, Union,
    Verdict,
};
pub use user::{
    ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, API_SERVER_USER, NODES_GROUP, SYSTEM_PRIVILEGED_GROUP,
    UserInfo, service_account_groups,
};
