-- Whether the clock that retention goes by is doubted, and what may be removed meanwhile. One row, from the first round with a
-- retention on; it outlives restarts, and all collectors go by it. Times of doubt are microseconds that really passed.
CREATE TABLE ruvvector_retention (
    only_row          BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    reason            TEXT,                     -- NULL: trusted; else set, differs, gap
    waited_us         BIGINT NOT NULL,          -- time spent in doubt, ever
    began_us          BIGINT NOT NULL,          -- of that, what was over when the doubt of now began
    granted_us        BIGINT,                   -- and what was over when a day was last granted for removal
    granted_before_us BIGINT,                   -- the end of that day, Unix µs
    confirmations     BIGINT NOT NULL           -- how often a person has confirmed the clock
);
