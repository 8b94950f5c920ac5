#!/bin/sh
# tests/guests/fetch-kernel.sh - see to the kernel that the test machines boot (needs a network once).
exec "$(dirname "$0")/build-guests.sh" --fetch
