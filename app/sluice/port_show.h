/* SPDX-License-Identifier: BSD-3-Clause */
/* What a port is and does, as JSON. */
#ifndef PORT_SHOW_H
#define PORT_SHOW_H

#include <jansson.h>

#include "port.h"

/* Control thread. The caller owns the values. */

/** One line for each port. */
json_t *port_list_json(const struct sluice *sl);

/** Everything about one. */
json_t *port_json(const struct port *port);

#endif
