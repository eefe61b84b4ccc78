//! Comprehensions.

use super::node::Fold;
use super::{EvalError, Frame, Local, Res};
use crate::val::Val;

impl<'a> Frame<'a, '_> {
    pub(super) fn fold(&mut self, fold: &'a Fold) -> Res<'a> {
        let range = self.eval(&fold.range)?;
        // Upstream evaluates the start value only once something reads it.
        self.locals[fold.accu] = Local::Lazy(&fold.init);
        match &range {
            Val::List(list) => {
                for i in 0..list.len() {
                    let Some(item) = list.get(i) else { break };
                    let first = match fold.var2 {
                        Some(slot) => {
                            self.locals[slot] = Local::Ready(item);
                            Ok(Val::Int(i as i64))
                        }
                        None => item,
                    };
                    self.locals[fold.var] = Local::Ready(first);
                    if !self.iterate(fold)? {
                        break;
                    }
                }
            }
            Val::Map(map) => {
                for key in map.keys() {
                    if let Some(slot) = fold.var2 {
                        let value = map.find(&key);
                        self.locals[slot] = value.map_or(Local::Unset, Local::Ready);
                    }
                    self.locals[fold.var] = Local::Ready(Ok(key));
                    if !self.iterate(fold)? {
                        break;
                    }
                }
            }
            other if fold.var2.is_some() => {
                let t = other.go_type();
                return Err(EvalError::new(format!("unsupported comprehension range type: {t}")));
            }
            other => {
                return Err(EvalError::new(format!("got '{}', expected iterable type", other.go_type())));
            }
        }
        self.locals[fold.var] = Local::Unset;
        let result = self.eval(&fold.result);
        self.locals[fold.accu] = Local::Unset;
        result
    }

    /// One step; whether to go on.
    fn iterate(&mut self, fold: &'a Fold) -> Result<bool, EvalError> {
        match self.eval(&fold.condition) {
            Ok(Val::Bool(false)) => return Ok(false),
            Err(e) if e.is_final() => return Err(e),
            _ => {}
        }
        let step = self.operand(&fold.step)?;
        self.locals[fold.accu] = Local::Ready(step);
        self.tick()?;
        Ok(true)
    }
}
