//! Rows of `users`.

use sqlx::MySqlPool;

use super::StoreError;

/// A user, without the password's hash.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(in crate::app) struct User {
    /// Primary key
    pub(in crate::app) id: u64,
    /// Unique, exact
    pub(in crate::app) username: String,
    /// Unique without regard to case
    pub(in crate::app) email: String,
    /// What they say of themselves
    pub(in crate::app) bio: Option<String>,
    /// Address of their picture
    pub(in crate::app) image: Option<String>,
}

/// A user and what their password is checked against.
#[derive(sqlx::FromRow)]
pub(in crate::app) struct Login {
    /// The user
    #[sqlx(flatten)]
    pub(in crate::app) user: User,
    /// PHC string
    pub(in crate::app) password_hash: String,
}

/// Changes to a user: `None` keeps.
#[derive(Default)]
pub(in crate::app) struct Change {
    pub(in crate::app) username: Option<String>,
    pub(in crate::app) email: Option<String>,
    pub(in crate::app) password_hash: Option<String>,
    pub(in crate::app) bio: Option<Option<String>>,
    pub(in crate::app) image: Option<Option<String>>,
}

/// The user with this id.
pub(in crate::app) async fn by_id(pool: &MySqlPool, id: u64) -> Result<Option<User>, StoreError> {
    let user = sqlx::query_as("SELECT id, username, email, bio, image FROM users WHERE id = ?")
        .bind(id)
        .fetch_optional(pool)
        .await?;
    Ok(user)
}

/// The user with this email, and the hash.
pub(in crate::app) async fn login(pool: &MySqlPool, email: &str) -> Result<Option<Login>, StoreError> {
    let login =
        sqlx::query_as("SELECT id, username, email, bio, image, password_hash FROM users WHERE email = ?")
            .bind(email)
            .fetch_optional(pool)
            .await?;
    Ok(login)
}

/// Adds a user.
///
/// # Errors
/// [`StoreError::Duplicate`] where username or email is taken; the constraint decides, so that two at once
/// cannot both have it.
pub(in crate::app) async fn insert(
    pool: &MySqlPool,
    username: String,
    email: String,
    password_hash: &str,
) -> Result<User, StoreError> {
    let id = sqlx::query(
        "INSERT INTO users (username, email, password_hash, created_at, updated_at) \
         VALUES (?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
    )
    .bind(&username)
    .bind(&email)
    .bind(password_hash)
    .execute(pool)
    .await?
    .last_insert_id();
    Ok(User {
        id,
        username,
        email,
        bio: None,
        image: None,
    })
}

/// Changes a user and reads the outcome; nothing where there is no such user.
///
/// # Errors
/// [`StoreError::Duplicate`] as for [`insert`].
pub(in crate::app) async fn update(
    pool: &MySqlPool,
    id: u64,
    change: Change,
) -> Result<Option<User>, StoreError> {
    sqlx::query(
        "UPDATE users SET \
           username = COALESCE(?, username), email = COALESCE(?, email), \
           password_hash = COALESCE(?, password_hash), \
           bio = IF(?, ?, bio), image = IF(?, ?, image), updated_at = UTC_TIMESTAMP(3) \
         WHERE id = ?",
    )
    .bind(change.username)
    .bind(change.email)
    .bind(change.password_hash)
    .bind(change.bio.is_some())
    .bind(change.bio.flatten())
    .bind(change.image.is_some())
    .bind(change.image.flatten())
    .bind(id)
    .execute(pool)
    .await?;
    by_id(pool, id).await
}
