-- An article's tags in the order given (position). The second index finds a tag's articles and the
-- distinct tags.
CREATE TABLE IF NOT EXISTS article_tags (
    article_id BIGINT UNSIGNED   NOT NULL,
    position   SMALLINT UNSIGNED NOT NULL,
    tag        VARCHAR(64)       CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (article_id, position),
    UNIQUE KEY article_tags_tag (tag, article_id),
    CONSTRAINT article_tags_article FOREIGN KEY (article_id) REFERENCES articles (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci
