//! Variables of the comprehensions around an expression.

use crate::types::Type;
use machinery::Str;

#[derive(Default)]
pub(super) struct Scopes(Vec<(Str, Type)>);

impl Scopes {
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, name: Str, t: Type) {
        self.0.push((name, t));
    }

    pub fn truncate(&mut self, depth: usize) {
        self.0.truncate(depth);
    }

    pub fn find(&self, name: &str) -> Option<&Type> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, t)| t)
    }
}
