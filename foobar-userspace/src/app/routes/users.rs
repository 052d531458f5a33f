//! POST /users, POST /users/login, GET and PUT /user.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::payload::Form;
use super::view::UserReply;
use crate::app::auth::Caller;
use crate::app::error::{ApiError, Reply};
use crate::app::server::App;
use crate::app::store::users;

/// The longest values, in characters; the columns' widths.
const MAX_USERNAME: usize = 64;
const MAX_EMAIL: usize = 254;
const MAX_BIO: usize = 10_000;
const MAX_IMAGE: usize = 2048;
/// Long enough for any passphrase, short enough that hashing it costs nothing extra.
const MAX_PASSWORD: usize = 1024;

/// Makes an account.
pub(super) async fn register(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Reply<UserReply>), ApiError> {
    let mut form = Form::read(request, "user").await?;
    let username = form.text("username", MAX_USERNAME);
    let email = form.text("email", MAX_EMAIL);
    let password = form.text("password", MAX_PASSWORD);
    let username = checked_username(&mut form, Some(username)).unwrap_or_default();
    let email = checked_email(&mut form, Some(email)).unwrap_or_default();
    form.done()?;
    let pool = app.database.pool()?;
    let hash = app.passwords.hash(password).await.map_err(ApiError::internal)?;
    let user = users::insert(pool, username, email, &hash).await?;
    let token = app.tokens.issue(user.id).map_err(ApiError::internal)?;
    Ok((StatusCode::CREATED, Reply(UserReply::new(user, token))))
}

/// Logs in. Whether the email is known shows neither in the answer nor in its time.
pub(super) async fn login(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Reply<UserReply>, ApiError> {
    let mut form = Form::read(request, "user").await?;
    let email = form.text("email", MAX_EMAIL);
    let password = form.text("password", MAX_PASSWORD);
    form.done()?;
    let (user, hash) = users::login(app.database.pool()?, email.trim())
        .await?
        .map(|login| (login.user, login.password_hash))
        .unzip();
    let matches = app
        .passwords
        .verify(password, hash)
        .await
        .map_err(ApiError::internal)?;
    let user = user.filter(|_| matches).ok_or(ApiError::Credentials)?;
    let token = app.tokens.issue(user.id).map_err(ApiError::internal)?;
    Ok(Reply(UserReply::new(user, token)))
}

/// Who the token says.
pub(super) async fn current(caller: Caller) -> Reply<UserReply> {
    Reply(UserReply::new(caller.user, caller.token))
}

/// Changes the account: only the fields given, at least one.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Reply<UserReply>, ApiError> {
    let mut form = Form::read(request, "user").await?;
    let username = form.text_if_given("username", MAX_USERNAME);
    let username = checked_username(&mut form, username);
    let email = form.text_if_given("email", MAX_EMAIL);
    let email = checked_email(&mut form, email);
    let password = form.text_if_given("password", MAX_PASSWORD);
    let bio = form.nullable("bio", MAX_BIO);
    let image = form.nullable("image", MAX_IMAGE);
    form.done()?;
    if username.is_none() && email.is_none() && password.is_none() && bio.is_none() && image.is_none() {
        return Err(ApiError::invalid("user", "can't be blank"));
    }
    let password_hash = match password {
        Some(password) => Some(app.passwords.hash(password).await.map_err(ApiError::internal)?),
        None => None,
    };
    let change = users::Change {
        username,
        email,
        password_hash,
        bio,
        image,
    };
    let user = users::update(app.database.pool()?, caller.user.id, change)
        .await?
        .ok_or(ApiError::TokenInvalid)?;
    Ok(Reply(UserReply::new(user, caller.token)))
}

/// Blanks around a name would make two that look the same.
fn checked_username(form: &mut Form, username: Option<String>) -> Option<String> {
    let username = username?.trim().to_owned();
    if username.chars().any(char::is_control) {
        form.refuse("username", "is invalid");
    }
    Some(username)
}

/// Only what any address has: something, one @, something, and no blanks (whether mail arrives is not for a
/// pattern to say). An empty one has been refused already.
fn checked_email(form: &mut Form, email: Option<String>) -> Option<String> {
    let email = email?.trim().to_owned();
    let is_address = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if !email.is_empty() && !is_address {
        form.refuse("email", "is invalid");
    }
    Some(email)
}
