//! Equal parts of objects, kept once: names that occur often ([`Name`]), and whole parts ([`Shared`]).
//!
//! A table knows every part that somebody holds; parts that nobody holds any more leave it when it has doubled. Reading an
//! object makes parts that are not in a table yet: [`Shared::settle`] puts them there, or takes the one of the object's
//! earlier state, which costs a comparison.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::labels::Labels;
use machinery::proto::read::{self, Value};
use machinery::proto::wire::{self, Wire};
use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

const HASH: FixedState = FixedState::with_seed(0);
/// Tables smaller than this are not swept.
const SMALL: usize = 1024;

/// Parts of one type that are in use.
pub struct Pool<T: ?Sized>(Mutex<Table<T>>);

struct Table<T: ?Sized> {
    parts: HashTable<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized> Pool<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(Mutex::new(Table { parts: HashTable::new(), sweep_at: SMALL }))
    }

    /// The part that satisfies `is`, or else a new one.
    fn part(
        &self,
        hash: u64,
        is: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Arc<T>,
        rehash: impl Fn(&T) -> u64,
    ) -> Arc<T> {
        let mut table = self.0.lock();
        if let Some(found) = table.parts.find(hash, |part| is(part)) {
            return found.clone();
        }
        if table.parts.len() >= table.sweep_at {
            table.parts.retain(|part| Arc::strong_count(part) > 1);
            table.sweep_at = (2 * table.parts.len()).max(SMALL);
            table.parts.shrink_to_fit(|part| rehash(part));
        }
        let made = make();
        table.parts.insert_unique(hash, made.clone(), |part| rehash(part));
        made
    }

    /// How many parts the table knows.
    pub fn len(&self) -> usize {
        self.0.lock().parts.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A text that many objects have: a namespace, a node's name, a phase, a label. Equal ones are one.
///
/// A holder has one pointer of it, not a pointer and a length: there are many holders, and few names.
#[derive(Clone)]
pub struct Name(Arc<Box<str>>);

static NAMES: Pool<Box<str>> = Pool::new();

impl Name {
    /// As a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn hash_text(text: &impl AsRef<str>) -> u64 {
    HASH.hash_one(text.as_ref())
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(NAMES.part(hash_text(&text), |t| **t == *text, || Arc::new(text.into()), hash_text))
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_string()
    }
}

impl Default for Name {
    fn default() -> Self {
        "".into()
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&**self, f)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A name that somebody holds stays in the table, so there are no two of one text.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Name {}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &**self == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &**self == *other
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        &**self == other
    }
}

impl PartialEq<Name> for String {
    fn eq(&self, other: &Name) -> bool {
        self == &**other
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

struct OfText;

impl Visitor<'_> for OfText {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
        Ok(text.into())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(OfText)
    }
}

impl Value for Name {
    fn read(kind: u8, from: &mut Wire<'_>) -> wire::Result<Self> {
        read::text(kind, from).map(|text| (&*text).into())
    }
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// A part of objects that many of them have alike.
pub trait Pooled: PartialEq + Debug + Send + Sync + 'static {
    /// The parts of this type: see [`pooled`](crate::pooled).
    fn pool() -> &'static Pool<Self>;

    /// A number that equal parts have alike. What this writes down is the whole part, which takes long.
    fn fingerprint(&self) -> u64 {
        let mut to = Hashing(HASH.build_hasher());
        // Writing to a hash does not fail; a part that cannot be written would only be found by comparison.
        let _ = fmt::Write::write_fmt(&mut to, format_args!("{self:?}"));
        to.0.finish()
    }
}

/// The [`Pooled::fingerprint`] of what has a hash.
pub fn fingerprint<T: Hash + ?Sized>(of: &T) -> u64 {
    HASH.hash_one(of)
}

/// Makes types parts that can be shared; `by hash` those that have one.
#[macro_export]
macro_rules! pooled {
    (by hash $($of:ty),* $(,)?) => {$(
        impl $crate::Pooled for $of {
            $crate::pooled!(@pool $of);
            fn fingerprint(&self) -> u64 {
                $crate::fingerprint(self)
            }
        }
    )*};
    (@pool $of:ty) => {
        fn pool() -> &'static $crate::Pool<Self> {
            static POOL: $crate::Pool<$of> = $crate::Pool::new();
            &POOL
        }
    };
    ($($of:ty),* $(,)?) => {$(
        impl $crate::Pooled for $of {
            $crate::pooled!(@pool $of);
        }
    )*};
}

// Parts of generated types that many objects have alike.
pooled!(Affinity, BTreeMap<String, Quantity>);

impl Pooled for Vec<OwnerReference> {
    pooled!(@pool Vec<OwnerReference>);
    /// Owners are told apart by their uids.
    fn fingerprint(&self) -> u64 {
        let mut to = HASH.build_hasher();
        self.iter().for_each(|owner| owner.uid.hash(&mut to));
        to.finish()
    }
}

impl Pooled for ResourceRequirements {
    pooled!(@pool ResourceRequirements);
    fn fingerprint(&self) -> u64 {
        let mut to = HASH.build_hasher();
        hash_resources(self, &mut to);
        to.finish()
    }
}

/// Feeds a hash the limits and requests of a container.
pub fn hash_resources(of: &ResourceRequirements, to: &mut impl Hasher) {
    for (name, quantity) in [&of.limits, &of.requests].into_iter().flatten().flatten() {
        name.hash(to);
        quantity.0.hash(to);
    }
}

/// Feeds a hash what is written. Generated types have no hash of their own.
struct Hashing<H>(H);

impl<H: Hasher> fmt::Write for Hashing<H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A part that may be shared. Changing it makes it the holder's own.
#[derive(Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// A part that is not shared yet.
    pub fn new(part: T) -> Self {
        Self(Arc::new(part))
    }

    /// Both are the same part.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Pooled> Shared<T> {
    /// Takes an equal part in place of this one: the earlier state's, or one that anybody holds.
    pub fn settle(&mut self, old: Option<&Self>) {
        match old.filter(|old| old.is_same(self) || old.0 == self.0) {
            Some(old) => self.0 = old.0.clone(),
            None => {
                let own = &self.0;
                self.0 =
                    T::pool().part(own.fingerprint(), |part| *part == **own, || own.clone(), T::fingerprint);
            }
        }
    }
}

/// [`Shared::settle`] of a part that may be absent.
pub fn settle<T: Pooled>(part: &mut Option<Shared<T>>, old: Option<&Option<Shared<T>>>) {
    if let Some(part) = part {
        part.settle(old.and_then(Option::as_ref));
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> From<T> for Shared<T> {
    fn from(part: T) -> Self {
        Self::new(part)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: Debug> Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&**self, f)
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0 == other.0
    }
}

impl<L: Labels> Labels for Shared<L> {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

impl<'a, T> IntoIterator for &'a Shared<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::deserialize(d).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Clone)]
    struct Part(String);
    pooled!(Part);

    fn part(text: &str) -> Shared<Part> {
        Shared::new(Part(text.to_string()))
    }

    #[test]
    fn names_of_one_text_are_one() {
        let (a, b): (Name, Name) = ("shared-name".into(), String::from("shared-name").into());
        let other: Name = "other-name".into();
        assert!(a == b && a == "shared-name" && a != other);
        assert_eq!(serde_json::from_str::<Name>("\"shared-name\"").expect("a name"), a);
    }

    #[test]
    fn equal_parts_become_one() {
        let (mut a, mut b, mut c) = (part("equal"), part("equal"), part("other"));
        [&mut a, &mut b, &mut c].into_iter().for_each(|p| p.settle(None));
        assert!(a.is_same(&b) && !a.is_same(&c));
        b.0 = Arc::new(Part("changed".into()));
        b.settle(Some(&a));
        assert_eq!(b.0.0, "changed");
    }

    #[test]
    fn an_earlier_state_is_taken_before_the_table_is_asked() {
        let (old, mut new) = (part("of an earlier state"), part("of an earlier state"));
        new.settle(Some(&old));
        assert!(new.is_same(&old));
    }

    #[test]
    fn parts_that_nobody_holds_leave() {
        static POOL: Pool<str> = Pool::new();
        let of = |text: &str| {
            let rehash = |t: &str| HASH.hash_one(t);
            POOL.part(rehash(text), |t| t == text, || text.into(), rehash)
        };
        let held = of("held");
        (0..10 * SMALL).for_each(|n| drop(of(&n.to_string())));
        assert!(POOL.len() <= SMALL, "{}", POOL.len());
        assert!(Arc::ptr_eq(&held, &of("held")));
    }
}
