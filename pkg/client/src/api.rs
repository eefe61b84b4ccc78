//! Calls on the objects of one resource.

use std::marker::PhantomData;

use api::codec::ManagedFields;
use bytes::Bytes;
use http::Method;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::{Serialize, de::DeserializeOwned};

use crate::client::{Answer, Client, ContentType, Request};
use crate::codec;
use crate::error::{Error, Result};
use crate::object::{Kept, Meta, ObjectList, PartialObjectMetadata, Receipt};
use crate::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, Query, WatchParams, WriteParams, segment,
};
use crate::watch::WatchStream;

/// Group, version and plural of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// API group, "" for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub resource: String,
}

impl Gvr {
    /// From its parts.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// Of a generated type.
    pub fn of<K: k8s_openapi::Resource>() -> Self {
        Self::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
    }

    /// `/api/v1` or `/apis/group/version`.
    pub fn root(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// Path of the collection, in a namespace unless that is "".
    pub fn path(&self, namespace: &str) -> String {
        match namespace {
            "" => format!("{}/{}", self.root(), self.resource),
            ns => format!("{}/namespaces/{}/{}", self.root(), segment(ns), self.resource),
        }
    }

    /// `group/version` or `version`.
    pub fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl std::fmt::Display for Gvr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group_version(), self.resource)
    }
}

/// Which form of the objects is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The whole object.
    Full,
    /// Metadata only.
    Metadata,
}

/// How much of an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    All,
    /// At most which object it is: the server is asked for no more than metadata.
    Who,
}

/// An object in the form in which it is sent: see [`Api::prepare`].
pub struct Prepared<'v, In> {
    value: &'v In,
    content_type: &'static str,
    body: Bytes,
}

/// The objects of one resource, in one namespace or in all.
pub struct Api<K> {
    client: Client,
    gvr: Gvr,
    namespace: String,
    form: Form,
    managed: ManagedFields,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            gvr: self.gvr.clone(),
            namespace: self.namespace.clone(),
            form: self.form,
            managed: self.managed,
            kind: PhantomData,
        }
    }
}

impl<K> std::fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({} in {:?})", self.gvr, self.namespace)
    }
}

impl Client {
    /// All objects of a kind: cluster-scoped ones, or those of every namespace.
    pub fn all<K: Kept + Resource>(&self) -> Api<K> {
        Api::new(self.clone(), Gvr::of::<K>(), "", Form::Full)
    }

    /// The objects of a kind in a namespace.
    pub fn namespaced<K: Kept + Resource>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), Gvr::of::<K>(), namespace, Form::Full)
    }

    /// A resource known only at run time.
    pub fn dynamic(&self, gvr: &Gvr, namespace: &str) -> Api<crate::dynamic::DynamicObject> {
        Api::new(self.clone(), gvr.clone(), namespace, Form::Full)
    }

    /// The metadata of a resource known only at run time.
    pub fn metadata(&self, gvr: &Gvr, namespace: &str) -> Api<PartialObjectMetadata> {
        Api::new(self.clone(), gvr.clone(), namespace, Form::Metadata)
    }
}

impl<K: Kept> Api<K> {
    /// From its parts; [`Client`] has shorter ways.
    pub fn new(client: Client, gvr: Gvr, namespace: &str, form: Form) -> Self {
        let (namespace, managed) = (namespace.to_string(), ManagedFields::Read);
        Self { client, gvr, namespace, form, managed, kind: PhantomData }
    }

    /// Reads without managed fields, for readers that keep objects or have no use for them: they cost as much as much of the
    /// rest. What is read so must not be written back whole.
    #[must_use]
    pub fn without_managed_fields(self) -> Self {
        Self { managed: ManagedFields::Skip, ..self }
    }

    /// The same resource in another namespace, "" for all.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_string(), ..self.clone() }
    }

    /// The resource.
    pub fn gvr(&self) -> &Gvr {
        &self.gvr
    }

    /// The client underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn collection(&self) -> String {
        self.gvr.path(&self.namespace)
    }

    fn item(&self, name: &str, subresource: &str) -> Result<String> {
        if name.is_empty() {
            return Err(Error::Invalid(format!("{}: resource name may not be empty", self.gvr)));
        }
        let mut path = format!("{}/{}", self.collection(), segment(name));
        if !subresource.is_empty() {
            path.push('/');
            path.push_str(subresource);
        }
        Ok(path)
    }

    fn request(&self, method: Method, url: String, read: Read) -> Request {
        let mut request = Request::new(method, url);
        let form = if read == Read::Who { Form::Metadata } else { self.form };
        request.accept = codec::accept::<K>(self.client.content_type(), form, codec::What::Item).into();
        request
    }

    /// Untyped objects travel as JSON: their numbers and unknown fields would not survive a table.
    fn format(&self) -> ContentType {
        if K::TYPE.is_some() { self.client.content_type() } else { ContentType::Json }
    }

    async fn send<Out: DeserializeOwned + 'static>(&self, request: &Request) -> Result<Out> {
        let answer = self.client.call(request).await?;
        codec::decode(&request.url, &answer, self.managed)
    }

    async fn write<In: Serialize + 'static, Out: DeserializeOwned + 'static>(
        &self,
        method: Method,
        url: String,
        query: &Query,
        value: &In,
    ) -> Result<Out> {
        let answer = self.exchange(method, &url, query, value, Read::All).await?;
        codec::decode(&url, &answer, ManagedFields::Read)
    }

    async fn exchange<In: Serialize + 'static>(
        &self,
        method: Method,
        url: &str,
        query: &Query,
        value: &In,
        read: Read,
    ) -> Result<Answer> {
        let request = self.request(method, query.on(url), read);
        self.send_prepared(request, url, &self.encoded(url, value)?).await
    }

    fn encoded<'v, In: Serialize + 'static>(&self, what: &str, value: &'v In) -> Result<Prepared<'v, In>> {
        let (content_type, body) = codec::encode(self.format(), what, value)?;
        Ok(Prepared { value, content_type, body })
    }

    async fn send_prepared<In: Serialize>(
        &self,
        mut request: Request,
        what: &str,
        prepared: &Prepared<'_, In>,
    ) -> Result<Answer> {
        (request.content_type, request.body) = (prepared.content_type, prepared.body.clone());
        match self.client.call(&request).await {
            Err(e) if codec::retry_as_json(&e, request.content_type) => {
                (request.content_type, request.body) = codec::encode_json(what, prepared.value)?;
                self.client.call(&request).await
            }
            other => other,
        }
    }

    /// One object, newest state.
    pub async fn get(&self, name: &str) -> Result<K> {
        self.get_with(name, &GetParams::default()).await
    }

    /// One object.
    pub async fn get_with(&self, name: &str, params: &GetParams) -> Result<K> {
        let mut q = Query::default();
        q.push_some("resourceVersion", &params.resource_version);
        let url = q.on(&self.item(name, "")?);
        self.send(&self.request(Method::GET, url, Read::All)).await
    }

    /// One object, `None` if it does not exist.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// One page of objects (all of them if `limit` is 0).
    pub async fn list(&self, params: &ListParams) -> Result<ObjectList<K>> {
        let mut request = self.request(Method::GET, params.query().on(&self.collection()), Read::All);
        request.accept = codec::accept::<K>(self.client.content_type(), self.form, codec::What::List).into();
        let answer = self.client.call(&request).await?;
        codec::decode(&request.url, &answer, self.managed)
    }

    /// Patches an object.
    pub async fn patch(&self, name: &str, patch: &Patch, params: &PatchParams) -> Result<K> {
        self.patch_subresource(name, "", patch, params).await
    }

    /// Patches the status of an object.
    pub async fn patch_status(&self, name: &str, patch: &Patch, params: &PatchParams) -> Result<K> {
        self.patch_subresource(name, "status", patch, params).await
    }

    /// Patches an object through a subresource ("" for none).
    pub async fn patch_subresource(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
        params: &PatchParams,
    ) -> Result<K> {
        let url = params.query().on(&self.item(name, subresource)?);
        let request = self.request(Method::PATCH, url, Read::All).body(patch.content_type(), patch.body());
        self.send(&request).await
    }

    /// As [`Api::patch_subresource`]; the answer is not read.
    pub async fn patch_unread(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
        params: &PatchParams,
    ) -> Result<()> {
        self.patched(name, subresource, patch, params).await.map(drop)
    }

    /// As [`Api::patch_subresource`]; of the answer only the version is read.
    pub async fn patch_for_receipt(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
        params: &PatchParams,
    ) -> Result<Receipt> {
        codec::decode_object(
            name,
            &self.patched(name, subresource, patch, params).await?,
            ManagedFields::Skip,
        )
    }

    async fn patched(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
        params: &PatchParams,
    ) -> Result<Answer> {
        let url = params.query().on(&self.item(name, subresource)?);
        let request = self.request(Method::PATCH, url, Read::Who).body(patch.content_type(), patch.body());
        self.client.call(&request).await
    }

    /// Deletes an object. The answer (the object or a `Status`) is not kept.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<()> {
        let url = self.item(name, "")?;
        self.client
            .call(&Self::deletion(self.request(Method::DELETE, url, Read::Who), params)?)
            .await
            .map(|_| ())
    }

    /// Deletes all objects that match.
    pub async fn delete_collection(&self, params: &DeleteParams, which: &ListParams) -> Result<()> {
        let url = which.query().on(&self.collection());
        // The answer is a list, which has no form of one object's metadata: asked for that, the server refuses.
        self.client.call(&Self::deletion(Request::new(Method::DELETE, url), params)?).await.map(|_| ())
    }

    fn deletion(request: Request, params: &DeleteParams) -> Result<Request> {
        // JSON here whatever the client's format: every server of every kind reads it.
        let (content_type, body) = codec::encode_json("DeleteOptions", &params.options())?;
        Ok(request.body(content_type, body))
    }

    /// Reads a subresource.
    pub async fn get_subresource<Out: DeserializeOwned + 'static>(
        &self,
        name: &str,
        subresource: &str,
    ) -> Result<Out> {
        self.send(&self.request(Method::GET, self.item(name, subresource)?, Read::All)).await
    }

    /// Posts to a subresource: `binding`, `eviction`, `token`, ...
    pub async fn create_subresource<In: Serialize + 'static, Out: DeserializeOwned + 'static>(
        &self,
        name: &str,
        subresource: &str,
        body: &In,
    ) -> Result<Out> {
        let url = self.item(name, subresource)?;
        self.write(Method::POST, url, &Query::default(), body).await
    }

    /// Posts to a subresource whose answer says nothing more than that it was done: `binding`, `eviction`, ...
    pub async fn post_unread<In: Serialize + 'static>(
        &self,
        name: &str,
        subresource: &str,
        body: &In,
    ) -> Result<()> {
        let url = self.item(name, subresource)?;
        self.exchange(Method::POST, &url, &Query::default(), body, Read::All).await.map(drop)
    }

    /// As [`Api::post_unread`].
    pub async fn post_prepared_unread<In: Serialize>(
        &self,
        name: &str,
        subresource: &str,
        prepared: &Prepared<'_, In>,
    ) -> Result<()> {
        let url = self.item(name, subresource)?;
        let request = self.request(Method::POST, url.clone(), Read::All);
        self.send_prepared(request, &url, prepared).await.map(drop)
    }

    /// Puts a value into the form in which it is sent whose protobuf message its owner writes, which costs less than to go
    /// by the type table.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn prepare_message<'v, In: Serialize>(
        &self,
        (api_version, kind): (&str, &str),
        value: &'v In,
        message: impl FnOnce(&In) -> Vec<u8>,
    ) -> Result<Prepared<'v, In>> {
        let (content_type, body) = match self.client.content_type() {
            ContentType::Protobuf => codec::sealed(api_version, kind, &message(value)),
            ContentType::Json => codec::encode_json(kind, value)?,
        };
        Ok(Prepared { value, content_type, body })
    }

    /// Replaces a subresource that has a type of its own: `scale`, `ephemeralcontainers`, ...
    pub async fn replace_subresource<In: Serialize + 'static, Out: DeserializeOwned + 'static>(
        &self,
        name: &str,
        subresource: &str,
        body: &In,
    ) -> Result<Out> {
        let url = self.item(name, subresource)?;
        self.write(Method::PUT, url, &Query::default(), body).await
    }

    /// Binds, evicts, ...: posts to a subresource whose answer is a `Status`.
    pub async fn post_status<In: Serialize + 'static>(
        &self,
        name: &str,
        subresource: &str,
        body: &In,
    ) -> Result<Status> {
        self.create_subresource(name, subresource, body).await
    }

    /// Opens a watch.
    pub async fn watch(&self, params: &WatchParams) -> Result<WatchStream<K>> {
        let mut request = self.request(Method::GET, params.query().on(&self.collection()), Read::All);
        request.accept = codec::accept::<K>(self.client.content_type(), self.form, codec::What::Watch).into();
        request.streaming = true;
        let response = self.client.stream(&request).await?;
        Ok(WatchStream::new(&request.url, response, self.managed))
    }
}

/// Writing takes whole objects: see [`Kept`].
impl<K: Meta> Api<K> {
    /// Creates an object in this namespace.
    pub async fn create(&self, object: &K) -> Result<K> {
        self.create_with(object, &WriteParams::default()).await
    }

    /// Creates an object in this namespace.
    pub async fn create_with(&self, object: &K, params: &WriteParams) -> Result<K> {
        self.write(Method::POST, self.collection(), &params.query(), object).await
    }

    /// Creates an object in this namespace. What the server made of it is not read.
    pub async fn create_unread(&self, object: &K) -> Result<()> {
        let answer = Read::Who;
        self.exchange(Method::POST, &self.collection(), &Query::default(), object, answer).await.map(drop)
    }

    /// Creates an object in this namespace. Of what the server made of it only the name and version are read.
    pub async fn create_for_receipt(&self, object: &K) -> Result<Receipt> {
        self.create_prepared(&self.prepare(object)?).await
    }

    /// Puts an object into the form in which it is sent, for creating many like it.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn prepare<'v>(&self, object: &'v K) -> Result<Prepared<'v, K>> {
        self.encoded(&self.collection(), object)
    }

    /// As [`Api::create_unread`].
    pub async fn create_prepared_unread<In: Serialize>(&self, prepared: &Prepared<'_, In>) -> Result<()> {
        let url = self.collection();
        let request = self.request(Method::POST, url.clone(), Read::Who);
        self.send_prepared(request, &url, prepared).await.map(drop)
    }

    /// As [`Api::create_for_receipt`].
    pub async fn create_prepared(&self, prepared: &Prepared<'_, K>) -> Result<Receipt> {
        let url = self.collection();
        let request = self.request(Method::POST, url.clone(), Read::Who);
        let answer = self.send_prepared(request, &url, prepared).await?;
        codec::decode_object(&url, &answer, ManagedFields::Skip)
    }

    /// Replaces the status of an object. Of what the server made of it only the version is read.
    pub async fn replace_status_for_receipt(&self, object: &K) -> Result<Receipt> {
        let url = self.item(object.name(), "status")?;
        let answer = self.exchange(Method::PUT, &url, &Query::default(), object, Read::Who).await?;
        codec::decode_object(&url, &answer, ManagedFields::Skip)
    }

    /// Replaces an object.
    pub async fn replace(&self, object: &K) -> Result<K> {
        self.replace_with(object, "", &WriteParams::default()).await
    }

    /// Replaces the status of an object.
    pub async fn replace_status(&self, object: &K) -> Result<K> {
        self.replace_with(object, "status", &WriteParams::default()).await
    }

    /// Replaces an object through a subresource ("" for none).
    pub async fn replace_with(&self, object: &K, subresource: &str, params: &WriteParams) -> Result<K> {
        let url = self.item(object.name(), subresource)?;
        self.write(Method::PUT, url, &params.query(), object).await
    }
}
