-- People who write. Every migration is one statement that may run twice: MySQL's DDL cannot be rolled
-- back, so a server that dies half-way leaves the next one to run it again.
-- Usernames are told apart exactly, emails without regard to case.
CREATE TABLE IF NOT EXISTS users (
    id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    username      VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    email         VARCHAR(254)    CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL,
    password_hash VARCHAR(255)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    bio           TEXT            NULL,
    image         VARCHAR(2048)   NULL,
    created_at    DATETIME(3)     NOT NULL,
    updated_at    DATETIME(3)     NOT NULL,
    UNIQUE KEY users_username (username),
    UNIQUE KEY users_email (email)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci
