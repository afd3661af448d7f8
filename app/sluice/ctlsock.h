/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: runs operators' commands that arrive as JSON-RPC over a unix socket. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CTLSOCK_DEFAULT_PATH "/run/sluice/control.sock"
#define CTLSOCK_CLIENTS_MAX  64
#define CTLSOCK_LINE_MAX     65536       /* bytes in a request, without its line end */
#define CTLSOCK_ANSWER_MAX   (16u << 20) /* bytes in an answer */

struct cmd_registry;
struct ctlsock;
struct event_base;
struct usock_access;
struct usock_file;

/*
 * Listen on path. Who may connect: access, or NULL for us and our group. Directories below /run/sluice are made, with mode 0755. A socket file
 * that we own and on which nobody listens is replaced, anything else that is there is left alone.
 * base and reg must outlive the socket; SIGPIPE is ignored from here on.
 * Thread: the control thread, which also runs base. Returns 0, or a negative errno with one line in
 * err that names the path and what to do.
 */
int ctlsock_new(struct event_base *base, struct cmd_registry *reg, const char *path,
	const struct usock_access *access, struct ctlsock **sock, char *err, size_t err_len);

/*
 * Hand what answers the clients can take at once to them, close them, and unlink the socket if it
 * is still the one we made. Not from a command's handler.
 */
void ctlsock_free(struct ctlsock *sock);

/*
 * What to do with a client that asks for the switch itself (method "take-over"): fn gets its socket,
 * which is fn's then. Only for clients of our own user, or root.
 */
#define CTLSOCK_TAKE_OVER "take-over"
void ctlsock_on_take_over(struct ctlsock *s, void (*fn)(void *arg, int fd), void *arg);

/* The listening socket, borrowed, and which file is its; for ctlsock_adopt() in another process. */
int ctlsock_listener(const struct ctlsock *s, struct usock_file *file);

/* The socket file is another process's from here on. */
void ctlsock_forfeit(struct ctlsock *s);

/* As ctlsock_new(), with a socket that listens already, which is ours from here on also on failure. */
int ctlsock_adopt(struct event_base *base, struct cmd_registry *reg, const char *path, int fd,
	const struct usock_file *file, struct ctlsock **sock, char *err, size_t err_len);

/* Whether a line is a request for this method, right in all else. */
bool ctlsock_rpc_is(const char *line, size_t line_len, const char *method);

/* How many clients are connected. */
unsigned int ctlsock_clients(const struct ctlsock *sock);

/*
 * Answer one JSON-RPC request, `line` without its end. Returns the answer without a line end, for
 * the caller to free, with its length in *len; empty for a notification, NULL without memory.
 */
char *ctlsock_rpc(struct cmd_registry *reg, const char *line, size_t line_len, size_t *len);

/* The answer to what is no request: an error with no id. code is JSON-RPC's. */
char *ctlsock_rpc_error(int code, const char *message, size_t *len);

#define CTLSOCK_RPC_PARSE   -32700
#define CTLSOCK_RPC_REQUEST -32600
#define CTLSOCK_RPC_METHOD  -32601
#define CTLSOCK_RPC_PARAMS  -32602
#define CTLSOCK_RPC_BUSY    -32000 /* a limit of ours: clients, length of an answer */
