//! HTTP as the API server speaks it: bodies, content negotiation, query parameters, request paths, and rendering of
//! errors. No resources and no policy here.
pub(crate) mod body;
pub(crate) mod info;
pub(crate) mod negotiate;
pub(crate) mod pretty;
pub(crate) mod query;
pub(crate) mod respond;
pub(crate) mod router;
pub(crate) mod upload;
pub(crate) mod yaml;

pub(crate) use body::Response;
pub(crate) use upload::Upload;
