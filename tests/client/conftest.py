"""A real server for the tests of the client."""

from served import bundle as bundle
from served import cell as cell
from served import drawing_sessions as drawing_sessions
from served import expected as expected
from served import frames as frames
from served import mortal_server as mortal_server
from served import proxy as proxy
from served import server as server
from served import sessions as sessions
from served import tcp_server as tcp_server
