"""A real server for the tests of the commands."""

from served import bundle as bundle
from served import cell as cell
from served import expected as expected
from served import frames as frames
from served import mortal_server as mortal_server
from served import server as server
