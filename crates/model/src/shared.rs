//! A value with several owners, of which none sees another's changes: cloning counts, changing copies first.
//!
//! Plans are mostly what their parents were, and several are kept; so their parts are shared instead of copied. On the wire and in
//! the store a shared value reads like the value itself. Read next: [`crate::plan`].

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A shared value. Read it as the value; whoever changes it has a copy of its own from then on.
pub struct Shared<T> {
    // Invariant: never changed while another owner holds it; `DerefMut` is the only way to change it, and copies.
    value: Arc<T>,
}

impl<T> Shared<T> {
    /// Whether both are one and the same, not only equal.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<T: Clone> Shared<T> {
    /// The value; copied where somebody else holds it too.
    pub fn take(self) -> T {
        Arc::unwrap_or_clone(self.value)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self { value: Arc::new(value) }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.value)
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.value == other.value
    }
}
impl<T: Eq> Eq for Shared<T> {}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.as_ref().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_changes_a_shared_value_changes_a_copy_of_its_own() {
        let one = Shared::from(vec![1, 2]);
        let mut other = one.clone();
        assert!(one.is(&other));
        other.push(3);
        assert!(!one.is(&other));
        assert_eq!((&*one, &*other), (&vec![1, 2], &vec![1, 2, 3]));
        assert_eq!(other.take(), [1, 2, 3]);
        assert_eq!(one, Shared::from(vec![1, 2]), "equal, though not the same");
    }

    #[test]
    fn it_reads_and_shows_like_the_value() {
        let value = Shared::from(vec![1, 2]);
        assert_eq!(serde_json::to_string(&value).unwrap(), "[1,2]");
        assert_eq!(serde_json::from_str::<Shared<Vec<i32>>>("[1,2]").unwrap(), value);
        assert_eq!(format!("{value:?}"), "[1, 2]");
    }
}
