/*
 * YAML text to a tree, through libfyaml's events: its document builder would resolve anchors and
 * merge keys, which we refuse. The open collections are a stack of at most MAX_DEPTH frames.
 */
#include "base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "conf_int.h"
#include "text_int.h"

enum {
	MAX_DEPTH = 16,
	MAX_BYTES = 1024 * 1024,
	MAX_NODES = 100000, /* "[,,,,": a small text must not take a lot of memory */
	MAX_DUPLICATES = 10,
	FLAGS = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE,
};

struct frame {
	struct lb_conf_node *node;
	struct lb_conf_node *key; /* MAP: a key that waits for its value */
};

struct builder {
	struct lb_conf *c;
	struct frame stack[MAX_DEPTH];
	unsigned depth;
	unsigned documents;
	bool failed; /* the rest cannot be read; a problem says why */
	bool oom;
};

/* ---- nodes ---- */

static void node_free(struct lb_conf_node *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; i < n->n; i++) {
		if (n->keys != NULL)
			node_free(n->keys[i]);
		node_free(n->items[i]);
	}
	free(n->keys);
	free(n->items);
	free(n->text);
	free(n);
}

static struct lb_conf_node *node_new(struct builder *b, enum lb_conf_kind kind,
				     struct lb_conf_place at)
{
	struct lb_conf_node *n = NULL;

	if (b->c->nodes++ >= MAX_NODES) {
		lb_conf_note(b->c, at, "more than %d values", MAX_NODES);
		b->failed = true;
		return NULL;
	}
	n = calloc(1, sizeof(*n));
	if (n == NULL) {
		b->oom = true;
		return NULL;
	}
	n->kind = kind;
	n->at = at;
	return n;
}

/* Room for one more item; capacity is the next power of two, so it needs no field. */
static bool node_grow(struct lb_conf_node *n)
{
	size_t cap = n->n != 0 ? n->n * 2 : 1;
	struct lb_conf_node **p;

	if ((n->n & (n->n - 1)) != 0)
		return true;
	p = realloc(n->items, cap * sizeof(struct lb_conf_node *));
	if (p == NULL)
		return false;
	n->items = p;
	if (n->kind != LB_CONF_MAP)
		return true;
	p = realloc(n->keys, cap * sizeof(struct lb_conf_node *));
	if (p == NULL)
		return false;
	n->keys = p;
	return true;
}

/* ---- places ---- */

static struct lb_conf_place place_of(const struct fy_mark *from, const struct fy_mark *to)
{
	struct lb_conf_place at = {.line = 1, .column = 1, .width = 1};

	if (from == NULL)
		return at;
	at.line = (unsigned)from->line + 1;
	at.column = (unsigned)from->column + 1;
	if (to != NULL && to->line == from->line && to->column > from->column)
		at.width = (unsigned)(to->column - from->column);
	else if (to != NULL && to->line > from->line)
		at.width = UINT16_MAX; /* to the end of its first line */
	return at;
}

/* libfyaml's mark of an anchor or alias is its name: begin at the & or *. */
static struct lb_conf_place with_sigil(struct lb_conf_place at)
{
	if (at.column > 1) {
		at.column--;
		at.width++;
	}
	return at;
}

/* Where an event is. An empty value has no token: it is where its key is. */
static struct lb_conf_place place_of_event(const struct builder *b, struct fy_event *e)
{
	const struct fy_mark *from = fy_event_start_mark(e);
	const struct frame *top = b->depth != 0 ? &b->stack[b->depth - 1] : NULL;

	if (from != NULL)
		return place_of(from, fy_event_end_mark(e));
	if (top != NULL && top->key != NULL)
		return top->key->at;
	if (top != NULL)
		return top->node->at;
	return place_of(NULL, NULL);
}

/* ---- building ---- */

/* Put @n where the open collection expects it. Takes @n, also on failure. */
static void attach(struct builder *b, struct lb_conf_node *n)
{
	struct frame *top = b->depth != 0 ? &b->stack[b->depth - 1] : NULL;

	if (top == NULL) {
		node_free(b->c->root);
		b->c->root = n;
		return;
	}
	if (!node_grow(top->node)) {
		b->oom = true;
		node_free(n);
		return;
	}
	if (top->node->kind == LB_CONF_MAP) {
		top->node->keys[top->node->n] = top->key;
		top->key = NULL;
	}
	top->node->items[top->node->n++] = n;
}

static bool wants_key(const struct builder *b)
{
	const struct frame *top = b->depth != 0 ? &b->stack[b->depth - 1] : NULL;

	return top != NULL && top->node->kind == LB_CONF_MAP && top->key == NULL;
}

/* Anchors and tags: one text must mean one thing, and a type comes from the reader's table. */
static bool refuse_properties(struct builder *b, struct fy_token *anchor, struct fy_token *tag)
{
	if (anchor != NULL)
		lb_conf_note(b->c,
			     with_sigil(place_of(fy_token_start_mark(anchor),
						 fy_token_end_mark(anchor))),
			     "anchors (&) are not supported, write the value out");
	if (tag != NULL)
		lb_conf_note(b->c, place_of(fy_token_start_mark(tag), fy_token_end_mark(tag)),
			     "tags (!) are not supported");
	return anchor != NULL || tag != NULL;
}

static void check_key(struct builder *b, struct lb_conf_node *key)
{
	if (key->text[0] == 0 && key->plain)
		lb_conf_problem(b->c, key, "a key is missing before ':'");
	else if (key->plain && strcmp(key->text, "<<") == 0)
		lb_conf_problem(b->c, key,
				"merge keys (<<) are not supported, write the values out");
}

static void on_scalar(struct builder *b, struct fy_event *e)
{
	struct fy_token *token = e->scalar.value;
	size_t len = 0;
	const char *text = token != NULL ? fy_token_get_text(token, &len) : NULL;
	struct lb_conf_node *n = node_new(b, LB_CONF_SCALAR, place_of_event(b, e));

	if (n == NULL)
		return;
	n->text = strndup(text != NULL ? text : "", len);
	if (n->text == NULL) {
		b->oom = true;
		node_free(n);
		return;
	}
	n->plain = token == NULL || text == NULL ||
		   fy_scalar_token_get_style(token) == FYSS_PLAIN ||
		   fy_scalar_token_get_style(token) == FYSS_ANY;
	n->refused = refuse_properties(b, e->scalar.anchor, e->scalar.tag);
	if (strlen(n->text) != len) {
		lb_conf_problem(b->c, n, "a NUL character inside a text");
		n->refused = true;
	}
	if (wants_key(b)) {
		check_key(b, n);
		b->stack[b->depth - 1].key = n;
	} else {
		attach(b, n);
	}
}

static void on_alias(struct builder *b, struct fy_event *e)
{
	struct lb_conf_place at = with_sigil(place_of_event(b, e));
	struct lb_conf_node *n = node_new(b, LB_CONF_SCALAR, at);

	lb_conf_note(b->c, at, "aliases (*) are not supported, write the value out");
	if (n == NULL)
		return;
	n->text = calloc(1, 1);
	n->refused = true;
	if (n->text == NULL || wants_key(b)) {
		b->oom = n->text == NULL;
		b->failed = true;
		node_free(n);
		return;
	}
	attach(b, n);
}

static void on_open(struct builder *b, struct fy_event *e, enum lb_conf_kind kind)
{
	struct lb_conf_place at = place_of_event(b, e);
	struct lb_conf_node *n;
	bool refused;

	if (wants_key(b) || b->depth == MAX_DEPTH) {
		if (b->depth == MAX_DEPTH)
			lb_conf_note(b->c, at, "nested deeper than %d", MAX_DEPTH);
		else
			lb_conf_note(b->c, at, "a key must be a simple text");
		b->failed = true;
		return;
	}
	refused = kind == LB_CONF_MAP
			  ? refuse_properties(b, e->mapping_start.anchor, e->mapping_start.tag)
			  : refuse_properties(b, e->sequence_start.anchor, e->sequence_start.tag);
	n = node_new(b, kind, at);
	if (n == NULL)
		return;
	n->refused = refused;
	attach(b, n);
	if (!b->oom)
		b->stack[b->depth++] = (struct frame){.node = n};
}

static int by_text_then_place(const void *pa, const void *pb)
{
	const struct lb_conf_node *a = *(const struct lb_conf_node *const *)pa;
	const struct lb_conf_node *b = *(const struct lb_conf_node *const *)pb;
	int r = strcmp(a->text, b->text);

	if (r != 0)
		return r;
	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	return a->at.column < b->at.column ? -1 : a->at.column > b->at.column;
}

/* Sorted, because a hostile map of many keys must not take quadratic time. */
static void check_duplicates(struct builder *b, const struct lb_conf_node *map)
{
	struct lb_conf_node **sorted;
	unsigned found = 0;

	if (map->n < 2)
		return;
	sorted = malloc(map->n * sizeof(struct lb_conf_node *));
	if (sorted == NULL) {
		b->oom = true;
		return;
	}
	memcpy(sorted, map->keys, map->n * sizeof(struct lb_conf_node *));
	qsort(sorted, map->n, sizeof(struct lb_conf_node *), by_text_then_place);
	for (size_t i = 1; i < map->n && found < MAX_DUPLICATES; i++) {
		if (strcmp(sorted[i - 1]->text, sorted[i]->text) != 0)
			continue;
		lb_conf_problem(b->c, sorted[i], "duplicate key \"%.64s\", first on line %u",
				sorted[i]->text, sorted[i - 1]->at.line);
		found++;
	}
	free(sorted);
}

static void on_close(struct builder *b)
{
	struct frame *top;

	LB_ASSERT(b->depth != 0);
	top = &b->stack[--b->depth];
	if (top->node->kind == LB_CONF_MAP)
		check_duplicates(b, top->node);
	node_free(top->key); /* of a map that ended early; NULL otherwise */
	top->key = NULL;
}

static void on_event(struct builder *b, struct fy_event *e)
{
	switch (e->type) {
	case FYET_NONE:
	case FYET_STREAM_START:
	case FYET_STREAM_END:
	case FYET_DOCUMENT_END:
		break;
	case FYET_DOCUMENT_START:
		if (b->documents++ == 0)
			break;
		lb_conf_note(b->c, place_of_event(b, e), "a second document (---) in one file");
		b->failed = true;
		break;
	case FYET_MAPPING_START:
		on_open(b, e, LB_CONF_MAP);
		break;
	case FYET_SEQUENCE_START:
		on_open(b, e, LB_CONF_SEQ);
		break;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		on_close(b);
		break;
	case FYET_SCALAR:
		on_scalar(b, e);
		break;
	case FYET_ALIAS:
		on_alias(b, e);
		break;
	}
}

/* libfyaml's first error; those after it follow from it. */
static void note_yaml_error(struct lb_conf *c, struct fy_diag *diag)
{
	void *iter = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);
	struct lb_conf_place at = {.line = 1, .column = 1, .width = 1};

	if (e == NULL) {
		lb_conf_note(c, at, "not YAML");
		return;
	}
	if (e->line > 0)
		at.line = (unsigned)e->line;
	if (e->column > 0)
		at.column = (unsigned)e->column;
	lb_conf_note(c, at, "not YAML: %s", e->msg != NULL ? e->msg : "no reason given");
}

static void run_parser(struct builder *b, struct fy_parser *parser)
{
	struct fy_event *e;

	while (!b->failed && !b->oom && (e = fy_parser_parse(parser)) != NULL) {
		on_event(b, e);
		fy_parser_event_free(parser, e);
	}
}

static int parse_yaml(struct lb_conf *c, const char *text, size_t len)
{
	struct fy_diag_cfg diag_cfg;
	struct fy_parse_cfg cfg = {
		.search_path = "",
		.flags = (enum fy_parse_cfg_flags)FLAGS,
	};
	struct builder b = {.c = c};
	struct fy_parser *parser = NULL;
	int rc = LB_ENOMEM;

	fy_diag_cfg_default(&diag_cfg);
	diag_cfg.fp = NULL;
	diag_cfg.level = FYET_ERROR;
	cfg.diag = fy_diag_create(&diag_cfg);
	if (cfg.diag == NULL)
		return LB_ENOMEM;
	fy_diag_set_collect_errors(cfg.diag, true);
	parser = fy_parser_create(&cfg);
	if (parser == NULL || fy_parser_set_string(parser, text, len) != 0)
		goto out;
	run_parser(&b, parser);
	while (b.depth != 0)
		node_free(b.stack[--b.depth].key);
	if (b.oom)
		goto out;
	rc = 0;
	if (fy_parser_get_stream_error(parser) || fy_diag_got_error(cfg.diag)) {
		note_yaml_error(c, cfg.diag);
		b.failed = true;
	}
	if (b.failed)
		rc = LB_EINPUT;
out:
	fy_parser_destroy(parser);
	fy_diag_destroy(cfg.diag);
	return rc;
}

/* Refuse what is not UTF-8 text before the parser sees it, and say where. */
static bool check_text(struct lb_conf *c)
{
	struct lb_conf_place at = {.line = 1, .column = 1, .width = 1};
	uint32_t cp = 0;

	for (size_t i = 0; i < c->len;) {
		size_t n = lb_utf8_next(c->text + i, &cp);

		if (n == 0 || (cp < 0x20 && cp != '\n' && cp != '\r' && cp != '\t')) {
			lb_conf_note(c, at,
				     n == 0 ? "not UTF-8 text (byte 0x%02x)"
					    : "control character 0x%02x",
				     (unsigned)(uint8_t)c->text[i]);
			return false;
		}
		i += n;
		at.column++;
		if (cp == '\n') {
			at.line++;
			at.column = 1;
		}
	}
	return true;
}

/* Nothing written ("", "---", only comments) is a map without keys. Also what a caller that goes on
 * after an error may look at: never half a tree. */
static int empty_root(struct lb_conf *c)
{
	struct lb_conf_node *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return LB_ENOMEM;
	n->kind = LB_CONF_MAP;
	n->at = (struct lb_conf_place){.line = 1, .column = 1, .width = 1};
	node_free(c->root);
	c->root = n;
	return 0;
}

static bool is_nothing(const struct lb_conf_node *n)
{
	return n == NULL || (n->kind == LB_CONF_SCALAR && n->plain && n->text[0] == 0);
}

static struct lb_conf *conf_new(const char *name, const char *text, size_t len)
{
	struct lb_conf *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->name = strdup(name);
	c->notes = calloc(LB_CONF_NOTES, sizeof(*c->notes));
	c->text = malloc(len + 1);
	if (c->name == NULL || c->notes == NULL || c->text == NULL) {
		lb_conf_destroy(c);
		return NULL;
	}
	if (len != 0)
		memcpy(c->text, text, len);
	c->text[len] = 0;
	c->len = len;
	return c;
}

int lb_conf_parse(struct lb_conf **out, const char *name, const char *text, size_t len,
		  struct lb_err *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	bool too_long = len > MAX_BYTES;
	struct lb_conf *c;
	int rc;

	if (len >= 3 && memcmp(text, bom, 3) == 0) {
		text += 3;
		len -= 3;
	}
	c = conf_new(name, text, too_long ? 0 : len);
	if (c == NULL)
		goto oom;
	rc = LB_EINPUT;
	if (too_long)
		lb_conf_problem(c, NULL, "%zu bytes, at most %d", len, MAX_BYTES);
	else if (check_text(c))
		rc = parse_yaml(c, c->text, c->len);
	if (rc == LB_ENOMEM || ((rc != 0 || is_nothing(c->root)) && empty_root(c) != 0))
		goto oom;
	*out = c;
	return rc == 0 ? 0 : lb_conf_check(c, err);
oom:
	lb_conf_destroy(c);
	return lb_err_set(err, LB_ENOMEM, 0, "parse %s", name);
}

/* Up to MAX_BYTES + 1, so that the parser sees that it is too long. */
static int read_file(const char *path, char *buf, size_t *len, struct lb_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc = 0;

	if (fd < 0)
		return lb_err_errno(err, errno, "open %s", path);
	*len = 0;
	while (*len < MAX_BYTES + 1) {
		ssize_t n = read(fd, buf + *len, MAX_BYTES + 1 - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = lb_err_errno(err, errno, "read %s", path);
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	(void)close(fd);
	return rc;
}

int lb_conf_parse_file(struct lb_conf **out, const char *path, struct lb_err *err)
{
	char *buf = malloc(MAX_BYTES + 1);
	size_t len = 0;
	int rc;

	if (buf == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "read %s", path);
	rc = read_file(path, buf, &len, err);
	if (rc == 0)
		rc = lb_conf_parse(out, path, buf, len, err);
	free(buf);
	return rc;
}

void lb_conf_destroy(struct lb_conf *c)
{
	if (c == NULL)
		return;
	node_free(c->root);
	free(c->name);
	free(c->text);
	free(c->notes);
	free(c->rendered);
	free(c);
}

/* ---- reading ---- */

const struct lb_conf_node *lb_conf_root(const struct lb_conf *c)
{
	return c->root;
}

enum lb_conf_kind lb_conf_kind(const struct lb_conf_node *n)
{
	return n->kind;
}

const char *lb_conf_text(const struct lb_conf_node *n)
{
	return n->kind == LB_CONF_SCALAR ? n->text : NULL;
}

size_t lb_conf_count(const struct lb_conf_node *n)
{
	return n->n;
}

const struct lb_conf_node *lb_conf_item(const struct lb_conf_node *n, size_t i)
{
	LB_ASSERT(i < n->n);
	return n->items[i];
}

const struct lb_conf_node *lb_conf_key_node(const struct lb_conf_node *map, size_t i)
{
	LB_ASSERT(map->kind == LB_CONF_MAP && i < map->n);
	return map->keys[i];
}

const char *lb_conf_key(const struct lb_conf_node *map, size_t i)
{
	return lb_conf_key_node(map, i)->text;
}

const struct lb_conf_node *lb_conf_get(const struct lb_conf_node *map, const char *key)
{
	if (map->kind != LB_CONF_MAP)
		return NULL;
	for (size_t i = 0; i < map->n; i++) {
		if (strcmp(map->keys[i]->text, key) == 0)
			return map->items[i];
	}
	return NULL;
}

unsigned lb_conf_line(const struct lb_conf_node *n)
{
	return n->at.line;
}

unsigned lb_conf_column(const struct lb_conf_node *n)
{
	return n->at.column;
}
