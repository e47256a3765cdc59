CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(300), c CHAR(10), cc CHAR(255), tx TEXT, ti TINYTEXT, mt MEDIUMTEXT, lt LONGTEXT, mb VARCHAR(50) COLLATE utf8mb4_bin, short3 VARCHAR(80) CHARACTER SET utf8mb3, long3 VARCHAR(90) CHARACTER SET utf8mb3);
INSERT INTO t VALUES (1, 'emoji 😀 ğüş', 'çx ', REPEAT('é', 255), 'text 😀', 'tiny', REPEAT('é', 70000), REPEAT('x', 70000), 'bin', REPEAT('ş', 80), REPEAT('ş', 90));
INSERT INTO t VALUES (2, '', '', '', '', '', '', '', '', '', '');
INSERT INTO t VALUES (3, REPEAT('a', 300), 'ab   ', '  x', '\0\n', '\0', 'e\u0301', ' ', 'x ', 'a', 'b');
INSERT INTO t (id) VALUES (4);
