//! Tokens: JWT (RFC 7519) signed with HMAC-SHA-256, carrying the user's id and an end.
//!
//! Knows no database: whether the user still exists is for the caller to find out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Signs and checks tokens with one secret.
pub(in crate::app) struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    lifetime: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Tokens that are good for `lifetime`.
    pub(in crate::app) fn new(secret: &[u8], lifetime: Duration) -> Self {
        // Only this algorithm: a token that names another, or none, is refused whatever its signature.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        Self {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
            validation,
            lifetime,
        }
    }

    /// A token for a user from now on.
    ///
    /// # Errors
    /// Where signing fails.
    pub(in crate::app) fn issue(&self, user: u64) -> Result<String, jsonwebtoken::errors::Error> {
        self.issue_at(user, SystemTime::now())
    }

    fn issue_at(&self, user: u64, now: SystemTime) -> Result<String, jsonwebtoken::errors::Error> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            sub: user.to_string(),
            iat: now.as_secs(),
            exp: (now + self.lifetime).as_secs(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
    }

    /// The user that a token is for; nothing where it is malformed, forged or expired.
    pub(in crate::app) fn user(&self, token: &str) -> Option<u64> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation).ok()?;
        data.claims.sub.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(secret.as_bytes(), HOUR)
    }

    #[test]
    fn a_token_names_its_user_until_it_expires() {
        let tokens = tokens("0123456789abcdef0123456789abcdef");
        assert_eq!(tokens.user(&tokens.issue(42).unwrap()), Some(42));
        let now = SystemTime::now();
        let fresh = tokens.issue_at(42, now - HOUR + Duration::from_secs(60)).unwrap();
        assert_eq!(tokens.user(&fresh), Some(42));
        let stale = tokens.issue_at(42, now - HOUR - Duration::from_secs(2)).unwrap();
        assert_eq!(tokens.user(&stale), None);
    }

    #[test]
    fn forged_and_malformed_tokens_name_nobody() {
        let ours = tokens("0123456789abcdef0123456789abcdef");
        let theirs = tokens("fedcba9876543210fedcba9876543210");
        assert_eq!(ours.user(&theirs.issue(42).unwrap()), None);
        // {"alg":"none"} and {"sub":"42","exp":9999999999}, unsigned
        assert_eq!(
            ours.user("eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiIsImV4cCI6OTk5OTk5OTk5OX0."),
            None
        );
        let token = ours.issue(42).unwrap();
        let (body, _signature) = token.rsplit_once('.').unwrap();
        for text in ["", "x", "a.b.c", body] {
            assert_eq!(ours.user(text), None, "{text}");
        }
        assert_eq!(ours.user(&format!("{body}.AAAA")), None);
    }
}
