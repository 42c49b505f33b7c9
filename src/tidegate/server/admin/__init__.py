"""The admin API under `/admin/v1`: one table of routes, from which routing, roles and the OpenAPI document are made."""
