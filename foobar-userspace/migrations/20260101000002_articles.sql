-- What they write. Times are UTC. The two indexes after the slug serve the lists, newest first, of
-- everybody and of one author.
CREATE TABLE IF NOT EXISTS articles (
    id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    author_id   BIGINT UNSIGNED NOT NULL,
    slug        VARCHAR(255)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    title       VARCHAR(255)    NOT NULL,
    description VARCHAR(1000)   NOT NULL,
    body        MEDIUMTEXT      NOT NULL,
    created_at  DATETIME(3)     NOT NULL,
    updated_at  DATETIME(3)     NOT NULL,
    UNIQUE KEY articles_slug (slug),
    KEY articles_newest (created_at, id),
    KEY articles_author_newest (author_id, created_at, id),
    CONSTRAINT articles_author FOREIGN KEY (author_id) REFERENCES users (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci
