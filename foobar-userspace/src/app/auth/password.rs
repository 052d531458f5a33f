//! Password hashes: argon2id with the parameters that OWASP recommends, away from the async threads and
//! never more at once than there are processors.
//!
//! Knows no users. A hash takes 19 MiB for its time, so that the limit bounds memory too.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;

/// OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Makes and checks password hashes.
pub(in crate::app) struct Passwords {
    running: Arc<Semaphore>,
    /// Checked where there is no such user, so that the answer takes as long.
    decoy: String,
}

impl Passwords {
    /// Makes the decoy: one hash.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub(in crate::app) fn new() -> Result<Self> {
        let permits = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nobody: [u8; 16] = rand::random();
        Ok(Self {
            running: Arc::new(Semaphore::new(permits)),
            decoy: hash(&nobody)?,
        })
    }

    /// The PHC string to store for a password.
    ///
    /// # Errors
    /// Where hashing fails: no memory, no randomness.
    pub(in crate::app) async fn hash(&self, password: String) -> Result<String> {
        self.off_thread(move || hash(password.as_bytes())).await?
    }

    /// Whether the password is the one that was hashed. Without a hash the answer is no, after the same
    /// work.
    ///
    /// # Errors
    /// Where the stored hash is no PHC string.
    pub(in crate::app) async fn verify(&self, password: String, stored: Option<String>) -> Result<bool> {
        let exists = stored.is_some();
        let phc = stored.unwrap_or_else(|| self.decoy.clone());
        let matches = self
            .off_thread(move || verify(password.as_bytes(), &phc))
            .await??;
        Ok(matches && exists)
    }

    /// The permit goes along: a caller that hangs up does not let another hash begin early.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .context("hashing has ended")?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .context("hashing was interrupted")
    }
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| anyhow::anyhow!("argon2 parameters: {error}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &[u8]) -> Result<String> {
    let phc: PasswordHash = argon2()?
        .hash_password(password)
        .map_err(|error| anyhow::anyhow!("cannot hash a password: {error}"))?;
    Ok(phc.to_string())
}

fn verify(password: &[u8], phc: &str) -> Result<bool> {
    let parsed = PasswordHash::new(phc).map_err(|error| anyhow::anyhow!("a stored hash is bad: {error}"))?;
    Ok(argon2()?.verify_password(password, &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(
            stored,
            passwords.hash("correct horse".to_owned()).await.unwrap(),
            "the salt is random"
        );
        assert!(
            passwords
                .verify("correct horse".to_owned(), Some(stored.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("battery staple".to_owned(), Some(stored))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn nobody_has_a_password_and_asking_costs_the_same() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("secret".to_owned()).await.unwrap();
        let mut ratios: Vec<f64> = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            assert!(
                !passwords
                    .verify("wrong".to_owned(), Some(stored.clone()))
                    .await
                    .unwrap()
            );
            let known = start.elapsed();
            let start = Instant::now();
            assert!(!passwords.verify("wrong".to_owned(), None).await.unwrap());
            ratios.push(start.elapsed().as_secs_f64() / known.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        assert!((0.3..3.0).contains(&median), "unknown to known: {median}");
    }
}
