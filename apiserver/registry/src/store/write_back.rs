//! A read-change-write of a stored object that bypasses strategy, admission and validation: for subresources whose
//! effect is defined on the stored object itself (binding, namespace phases).

use machinery::Value;

use crate::errors::ApiError;
use crate::meta;
use crate::spans;
use crate::store_errors;
use crate::strategy::Call;

/// Changes the named object of `call.resource`; `change` may run several times.
pub async fn change(
    call: &Call<'_>,
    name: &str,
    change: impl FnMut(&mut Value) -> Result<(), ApiError> + Send,
) -> Result<Value, ApiError> {
    spans::write("GuaranteedUpdate etcd3", call, name).run(attempts(call, name, change)).await
}

async fn attempts(
    call: &Call<'_>,
    name: &str,
    mut change: impl FnMut(&mut Value) -> Result<(), ApiError> + Send,
) -> Result<Value, ApiError> {
    let row = call.resource.row;
    let store = &call.core.store;
    let key = call.core.key(row, &call.request.info.namespace, name)?;
    let mut current = store.get(&key, 0).await.map_err(|e| store_errors::get(e, row, name))?.kv;
    loop {
        let Some(kv) = current else {
            return Err(ApiError::not_found(row.kind.group, row.resource, name));
        };
        let mut object = call.core.decode(call.resource, &kv)?;
        change(&mut object)?;
        let bytes = call.core.encode_stored(call.resource, &object)?;
        if call.request.dry_run || bytes == kv.value {
            return Ok(object);
        }
        current = match store.update(&key, bytes, kv.mod_revision, None).await {
            Ok(revision) => {
                meta::set(&mut object, "resourceVersion", revision.to_string());
                return Ok(object);
            }
            Err(storage::Error::Conflict { current, .. }) => current.map(|kv| *kv),
            Err(storage::Error::NotFound { .. }) => None,
            Err(error) => return Err(store_errors::update(error, row, name)),
        };
    }
}
