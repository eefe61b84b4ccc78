//! What the API server reads besides documents: its log.

pub fn wal(data: &[u8]) {
    storage::embedded::fuzz::log(data);
}
