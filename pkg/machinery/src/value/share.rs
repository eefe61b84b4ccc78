//! Sharing of memory between trees that say the same.

use super::Value;

impl Value {
    /// Takes every part that equals the part of `known` at the same place from there. The tree says what it said;
    /// code that knows shared parts by their address has less to look at.
    pub fn share(&mut self, known: &Value) {
        match (self, known) {
            (Value::Map(m), Value::Map(k)) if !m.ptr_eq(k) => {
                if m == k {
                    *m = k.clone();
                    return;
                }
                for (name, v) in m.iter_mut() {
                    if let Some(k) = k.get(name) {
                        v.share(k);
                    }
                }
            }
            (Value::List(l), Value::List(k)) if !l.ptr_eq(k) => {
                if l == k {
                    *l = k.clone();
                    return;
                }
                l.iter_mut().zip(k.iter()).for_each(|(v, k)| v.share(k));
            }
            _ => {}
        }
    }

    /// Whether some part is JSON kept byte for byte.
    pub fn has_raw(&self) -> bool {
        match self {
            Value::Raw(_) => true,
            Value::List(l) => l.iter().any(Value::has_raw),
            Value::Map(m) => m.values().any(Value::has_raw),
            _ => false,
        }
    }

    /// Whether both are the same scalar, or one and the same memory.
    pub fn is_shared_with(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Map(a), Value::Map(b)) => a.ptr_eq(b),
            (Value::List(a), Value::List(b)) => a.ptr_eq(b),
            (a, b) => a == b,
        }
    }
}
