/* SPDX-License-Identifier: BSD-3-Clause */
/* One JSON-RPC 2.0 request in, one answer out; knows no socket. */
#include "command.h"
#include "ctlsock.h"

#include <stdlib.h>
#include <string.h>

/*
 * Theory of operation. The methods are
 *
 *	run       {"command": "port show vm1"}   ->  {"text": "...", "data": ...}
 *	complete  {"line": "port sh"}            ->  {"start": 5, "words": ["show"]}
 *
 * A command that fails is an error whose code is its negative errno and whose message is its one
 * line; what it printed before is in the error's "data", like a result. Everything else uses
 * JSON-RPC's own codes. A batch is refused: a client just sends several lines.
 */

static json_t *make_error(int code, const char *message)
{
	return json_pack(
		"{s:{s:i, s:o}}", "error", "code", code, "message", cmd_json_text(message));
}

/* The answer as text. Takes over body, {"result": ...} or {"error": ...}; id may be NULL. */
static char *finish(json_t *body, json_t *id, size_t *len)
{
	json_t *answer = json_pack("{s:s, s:O?}", "jsonrpc", "2.0", "id", id);
	char *text = NULL;

	if (answer && body && json_object_update(answer, body) == 0)
		text = json_dumps(answer, JSON_COMPACT);
	json_decref(answer);
	json_decref(body);
	*len = text ? strlen(text) : 0;
	return text;
}

char *ctlsock_rpc_error(int code, const char *message, size_t *len)
{
	return finish(make_error(code, message), NULL, len);
}

static json_t *run_result(const struct cmd_result *res)
{
	json_t *text = cmd_json_text(res->text ? res->text : "");

	return json_pack("{s:o, s:O?}", "text", text, "data", res->data);
}

static json_t *method_run(struct cmd_registry *reg, const json_t *params)
{
	const char *line = json_string_value(json_object_get(params, "command"));
	struct cmd_result res;
	json_t *body;

	if (!line)
		return make_error(
			CTLSOCK_RPC_PARAMS, "run needs params {\"command\": \"a command line\"}");
	if (cmd_run(reg, line, &res)) {
		body = make_error(res.err, res.error ? res.error : "out of memory");
		if (res.text && res.text[0])
			json_object_set_new(
				json_object_get(body, "error"), "data", run_result(&res));
	} else {
		body = json_pack("{s:o}", "result", run_result(&res));
	}
	cmd_result_clear(&res);
	return body;
}

static json_t *method_complete(struct cmd_registry *reg, const json_t *params)
{
	const char *line = json_string_value(json_object_get(params, "line"));
	struct cmd_candidates found;
	json_t *words, *body;

	if (!line)
		return make_error(CTLSOCK_RPC_PARAMS,
			"complete needs params {\"line\": \"the line so far\"}");
	cmd_complete(reg, line, &found);
	words = json_array();
	for (size_t i = 0; i < found.n; i++)
		json_array_append_new(words, cmd_json_text(found.word[i]));
	body = json_pack(
		"{s:{s:I, s:o}}", "result", "start", (json_int_t)found.start, "words", words);
	cmd_candidates_clear(&found);
	return body;
}

static json_t *call(struct cmd_registry *reg, const json_t *request)
{
	static const struct {
		const char *name;
		json_t *(*call)(struct cmd_registry *reg, const json_t *params);
	} methods[] = {
		{"run", method_run},
		{"complete", method_complete},
	};
	const char *name = json_string_value(json_object_get(request, "method"));

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(name, methods[i].name) == 0)
			return methods[i].call(reg, json_object_get(request, "params"));
	return make_error(CTLSOCK_RPC_METHOD, "unknown method: there are 'run' and 'complete'");
}

/* NULL if this is a request, or what is wrong with it. */
static const char *check_request(const json_t *request)
{
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	const json_t *id = json_object_get(request, "id");

	if (json_is_array(request))
		return "a batch is not supported: send one request a line";
	if (!json_is_object(request))
		return "a request is a JSON object";
	if (!version || strcmp(version, "2.0") != 0)
		return "a request says \"jsonrpc\": \"2.0\"";
	if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return "an id is a string, a number or null";
	if (!json_is_string(json_object_get(request, "method")))
		return "a request says which \"method\"";
	return NULL;
}

bool ctlsock_rpc_is(const char *line, size_t line_len, const char *method)
{
	json_error_t where;
	json_t *request = json_loadb(line, line_len, JSON_DECODE_ANY, &where);
	bool is = request && !check_request(request) &&
		  strcmp(json_string_value(json_object_get(request, "method")), method) == 0;

	json_decref(request);
	return is;
}

char *ctlsock_rpc(struct cmd_registry *reg, const char *line, size_t line_len, size_t *len)
{
	json_error_t where;
	json_t *request = json_loadb(line, line_len, JSON_DECODE_ANY, &where);
	const char *wrong = request ? check_request(request) : NULL;
	char message[256], *answer = NULL;

	*len = 0;
	if (!request) {
		snprintf(message, sizeof(message), "not JSON, at byte %d: %s", where.position,
			where.text);
		return ctlsock_rpc_error(CTLSOCK_RPC_PARSE, message, len);
	}
	if (wrong) {
		answer = ctlsock_rpc_error(CTLSOCK_RPC_REQUEST, wrong, len);
	} else {
		json_t *body = call(reg, request);
		json_t *id = json_object_get(request, "id");

		if (id) {
			answer = finish(body, id, len);
		} else {
			json_decref(body);
			answer = strdup("");
		}
	}
	json_decref(request);
	return answer;
}
