"""How a process bears a dependency that is slow or away: waits that grow, and a switch that stops asking."""
