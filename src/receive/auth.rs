//! The accepted bearer tokens, which may be replaced while the service runs.
//!
//! **Invariant:** no token is kept, only its digest. A service that requires tokens never stops requiring them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The SHA-256 digests of the accepted tokens; clones share them.
#[derive(Clone, Default)]
pub struct AuthTokens(Arc<RwLock<Vec<[u8; 32]>>>);

impl AuthTokens {
    #[must_use]
    pub fn new(tokens: &[SecretString]) -> Self {
        let digest = |token: &SecretString| Sha256::digest(token.expose_secret()).into();
        let digests = tokens.iter().map(digest).collect();
        Self(Arc::new(RwLock::new(digests)))
    }

    /// Returns `true` if no token is required.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests().is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.digests().len()
    }

    /// Replaces the tokens by those of `other`, from the next request on.
    ///
    /// If either has no tokens, nothing is changed: the start alone decides if tokens are required.
    pub fn replace_by(&self, other: &Self) {
        let digests = other.digests().clone();
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !own.is_empty() && !digests.is_empty() {
            *own = digests;
        }
    }

    /// Returns `true` if the token is accepted. Every digest is compared in full, so that the duration reveals nothing.
    pub(crate) fn admit(&self, token: &[u8]) -> bool {
        let sent: [u8; 32] = Sha256::digest(token).into();
        let differs = |token: &[u8; 32]| {
            let bits = token
                .iter()
                .zip(sent)
                .fold(0, |bits, (a, b)| bits | (a ^ b));
            std::hint::black_box(bits) != 0
        };
        let digests = self.digests();
        digests.iter().filter(|token| !differs(token)).count() > 0
    }

    fn digests(&self) -> std::sync::RwLockReadGuard<'_, Vec<[u8; 32]>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints the number of tokens, not their digests, from which a short token can be guessed.
impl fmt::Debug for AuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::AuthTokens;

    fn tokens(list: &[&str]) -> AuthTokens {
        let list: Vec<_> = list.iter().map(|&token| token.into()).collect();
        AuthTokens::new(&list)
    }

    #[test]
    fn tokens_are_replaced_for_all_who_ask_and_never_by_none() {
        let own = tokens(&["one", "two"]);
        let shared = own.clone();
        own.replace_by(&tokens(&["three"]));
        assert!(shared.admit(b"three") && !shared.admit(b"one"));
        own.replace_by(&tokens(&[]));
        assert!(shared.admit(b"three"));
        let none = tokens(&[]);
        none.replace_by(&own);
        assert!(none.is_empty());
        assert_eq!(format!("{own:?}"), "1 tokens");
    }
}
